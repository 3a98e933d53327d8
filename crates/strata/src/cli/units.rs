//! Sizes, ages and dates as docker writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Returns a decimal size with three significant digits, as in image lists: `62.7MB`.
pub(crate) fn size(bytes: u64) -> String {
    decimal(bytes, 3)
}

/// Returns a decimal size with four significant digits, as everywhere else: `248.8MB`.
pub(crate) fn precise_size(bytes: u64) -> String {
    decimal(bytes, 4)
}

fn decimal(bytes: u64, digits: usize) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // The nearest double is what docker divides too.
    let mut value = f64_of(bytes);
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", general(value, digits), UNITS[unit])
}

/// Reads a size: decimal as sizes are printed (`10G`, `500MB`, `1.5gb`), binary with an `i`
/// (`2GiB`), a number of bytes without a unit.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let end = text.find(|sign: char| !sign.is_ascii_digit() && sign != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim_start();
    let (unit, base) = match unit.strip_suffix("ib") {
        Some(unit) if !unit.is_empty() => (unit, 1024_u64),
        _ => (unit.strip_suffix('b').unwrap_or(unit), 1000),
    };
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = base.pow(power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    // Nine digits are exact; what is behind them is less than a byte or two.
    let digits = fraction.get(..9).unwrap_or(fraction);
    let part: u64 = digits.parse().ok()?;
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    let part = u128::from(part) * u128::from(factor) / scale;
    whole
        .checked_mul(factor)?
        .checked_add(u64::try_from(part).ok()?)
}

fn f64_of(bytes: u64) -> f64 {
    let high = u32::try_from(bytes >> 32).expect("invariant: a shifted u64 fits in 32 bits");
    let low = u32::try_from(bytes & 0xffff_ffff).expect("invariant: masked to 32 bits");
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// Go's `%.{digits}g`.
fn general(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("invariant: the format has an exponent");
    let exponent: i32 = exponent
        .parse()
        .expect("invariant: the exponent is a number");
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let places = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= places {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(places - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

/// Returns a duration in words: `About a minute`, `3 weeks`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // docker rounds hours half up: 90 minutes are two hours.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Returns how long ago `then` was, without the word `ago`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let elapsed = now.as_nanosecond() - then.as_nanosecond();
    duration(Duration::from_nanos(u64::try_from(elapsed).unwrap_or(0)))
}

/// Returns `2026-11-23 06:28:55 +0000 UTC`.
pub(crate) fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// Returns `2026-11-23T06:28:55Z`.
pub(crate) fn rfc3339_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns the present time.
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let nanoseconds = i128::try_from(elapsed.as_nanos()).unwrap_or(0);
    Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Returns a time of the store's as one that can be formatted.
pub(crate) fn moment(time: store::Timestamp) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_docker() {
        for (bytes, short, long) in [
            (0, "0B", "0B"),
            (13, "13B", "13B"),
            (729, "729B", "729B"),
            (1202, "1.2kB", "1.202kB"),
            (1000, "1kB", "1kB"),
            (999_600, "1e+03kB", "999.6kB"),
            (62_690_706, "62.7MB", "62.69MB"),
            (164_047_917, "164MB", "164MB"),
            (248_812_345, "249MB", "248.8MB"),
            (1_270_000_000, "1.27GB", "1.27GB"),
            (u64::MAX, "18.4EB", "18.45EB"),
        ] {
            assert_eq!(
                (size(bytes), precise_size(bytes)),
                (short.into(), long.into())
            );
        }
    }

    #[test]
    fn a_size_is_decimal_unless_it_says_otherwise() {
        for (text, expected) in [
            ("10G", Some(10_000_000_000)),
            ("500MB", Some(500_000_000)),
            ("500 mb", Some(500_000_000)),
            ("1.5k", Some(1500)),
            ("2GiB", Some(2 << 30)),
            ("1.5kib", Some(1536)),
            ("7", Some(7)),
            ("7b", Some(7)),
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999P", None),
            ("", None),
            ("G", None),
            (".5G", None),
            ("1.", None),
            ("1.2.3G", None),
            ("-1G", None),
            ("10X", None),
            ("10iB", None),
            ("10 0", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_docker() {
        const HOUR: u64 = 3600;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (2 * 365 * 24 * HOUR, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn dates_are_written_as_go_prints_them() {
        let time = "2026-11-23T06:28:55.312283888Z".parse().expect("valid");
        assert_eq!(date(time), "2026-11-23 06:28:55 +0000 UTC");
        assert_eq!(rfc3339_seconds(time), "2026-11-23T06:28:55Z");
        let offset = "2026-11-23T08:28:55+02:00".parse().expect("valid");
        assert_eq!(date(offset), "2026-11-23 06:28:55 +0000 UTC");
    }
}
