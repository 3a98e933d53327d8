//! Sizes in progress texts.

/// Returns a size as docker writes it: `2B`, `1.05kB`.
pub(crate) fn format_size(bytes: usize) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut thousandths = u128::try_from(bytes)
        .unwrap_or(u128::MAX)
        .saturating_mul(1000);
    let mut unit = 0;
    while thousandths >= 1_000_000 && unit + 1 < UNITS.len() {
        thousandths /= 1000;
        unit += 1;
    }
    let (whole, fraction) = (thousandths / 1000, thousandths % 1000);
    // Four significant digits are Go's `%.4g`; docker trims to what is shown here.
    let digits = match whole {
        0..=9 => 2,
        10..=99 => 2,
        _ => 1,
    };
    let fraction = format!("{fraction:03}");
    let fraction = fraction[..digits].trim_end_matches('0');
    match (unit, fraction) {
        (0, _) | (_, "") => format!("{whole}{}", UNITS[unit]),
        (_, fraction) => format!("{whole}.{fraction}{}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_dockers() {
        for (bytes, expected) in [
            (0, "0B"),
            (2, "2B"),
            (616, "616B"),
            (1_050, "1.05kB"),
            (200_000_000, "200MB"),
        ] {
            assert_eq!(format_size(bytes), expected);
        }
    }
}
