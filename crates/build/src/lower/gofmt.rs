//! Go's `%q`, `%v` and durations, which history entries are written with.

use std::fmt::Write;

/// Returns `%q` of a string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        push_escaped(&mut out, character, '"');
    }
    out.push('"');
    out
}

/// Returns `%q` of a slice of strings: `["a" "b"]`.
pub(crate) fn quote_all(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Returns `%v` of a slice of strings: `[a b]`.
pub(crate) fn list(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

/// Returns `%q` of an integer, which Go takes for a character.
pub(crate) fn quote_integer(value: i64) -> String {
    let character = u32::try_from(value).ok().and_then(char::from_u32);
    let mut out = String::from("'");
    push_escaped(
        &mut out,
        character.unwrap_or(char::REPLACEMENT_CHARACTER),
        '\'',
    );
    out.push('\'');
    out
}

/// Returns `%v` of a duration in nanoseconds: `1m30s`, `1.5s`, `100ms`, `0s`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < SECOND {
        let (unit, name) = match total {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(total, unit));
    }
    let (minutes, seconds) = (
        total / (60 * SECOND),
        decimal(total % (60 * SECOND), SECOND),
    );
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

fn push_escaped(out: &mut String, character: char, quote: char) {
    match character {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if character == quote => {
            out.push('\\');
            out.push(character);
        }
        _ if !character.is_control() => out.push(character),
        _ => {
            let code = u32::from(character);
            let written = if code < 0x80 {
                write!(out, "\\x{code:02x}")
            } else {
                write!(out, "\\u{code:04x}")
            };
            written.expect("invariant: writing to a string does not fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_500_000_000, "1.5s"),
            (5_000_000_000, "5s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_010_000_000, "1h1m1.01s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn quotes_read_as_in_go() {
        assert_eq!(quote("a\"b\\\n\u{1}é"), r#""a\"b\\\n\x01é""#);
        assert_eq!(quote_integer(2), r"'\x02'");
        assert_eq!(quote_integer(10), r"'\n'");
        assert_eq!(quote_integer(39), r"'\''");
        assert_eq!(quote_integer(65), "'A'");
    }
}
