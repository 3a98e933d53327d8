//! Moments as people write them: `24h`, `2026-11-23T06:28:55Z`, seconds since the epoch.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Returns the present time.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Reads a moment: a duration back from `now`, a date, or seconds since the epoch. Dates without
/// an offset are UTC.
pub fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(duration) = parse_duration(text) {
        return now.checked_sub(duration).ok();
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return time
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|time| time.timestamp());
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<9}");
    let nanoseconds = digits.get(..9)?.parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

/// Reads a duration as Go writes it: `1h30m`, `1.5s`, `300ms`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|length| *length > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..length] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[length..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

/// Reads how long something lasts as people say it: `7d`, `1d12h`, `90m`. Days come first.
pub fn parse_age(text: &str) -> Option<Duration> {
    let Some((days, rest)) = text.split_once('d') else {
        return parse_duration(text);
    };
    if days.is_empty() || !days.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let days: u64 = days.parse().ok()?;
    let days = Duration::from_secs(days.checked_mul(24 * 3600)?);
    match rest {
        "" => Some(days),
        rest => days.checked_add(parse_duration(rest)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("24h", Some(86400.0)),
            ("1h30m", Some(5400.0)),
            ("1.5s", Some(1.5)),
            ("300ms", Some(0.3)),
            ("", None),
            ("10", None),
            ("h", None),
            ("3d", None),
        ] {
            let found = parse_duration(text).map(|duration| duration.as_secs_f64());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn an_age_may_have_days() {
        for (text, expected) in [
            ("7d", Some(7 * 86400)),
            ("1d12h", Some(36 * 3600)),
            ("90m", Some(5400)),
            ("0d", Some(0)),
            ("d", None),
            ("-1d", None),
            ("1.5d", None),
            ("7", None),
            ("7days", None),
            ("12h1d", None),
            ("99999999999999999999d", None),
            ("213503982334602d", None),
            ("", None),
        ] {
            let found = parse_age(text).map(|age| age.as_secs());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_duration_a_date_or_a_number() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("valid");
        for (text, expected) in [
            ("1h", Some("2026-11-23T11:00:00Z")),
            ("2026-11-23T06:28:55Z", Some("2026-11-23T06:28:55Z")),
            ("2026-11-23T06:28:55", Some("2026-11-23T06:28:55Z")),
            ("2026-11-23", Some("2026-11-23T00:00:00Z")),
            ("1700000000", Some("2023-11-14T22:13:20Z")),
            ("1700000000.5", Some("2023-11-14T22:13:20.5Z")),
            ("yesterday", None),
        ] {
            let found = parse(text, now).map(|time| time.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
