//! PAX extended headers.

use crate::Timestamp;
use crate::tar::TarError;

/// The keyword before the name of an extended attribute.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

const NANOSECOND_DIGITS: usize = 9;

/// The records of one extended header, in order. Old sparse maps repeat keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Parses `length key=value\n` records until the end of `data`.
    pub(crate) fn parse(mut data: &[u8]) -> Result<Self, TarError> {
        let mut records = Vec::new();
        while !data.is_empty() {
            let space = data.iter().position(|&byte| byte == b' ');
            let space = space.ok_or(TarError::PaxRecord)?;
            let length = decimal(&data[..space]).ok_or(TarError::PaxRecord)?;
            let length = usize::try_from(length).map_err(|_| TarError::PaxRecord)?;
            if length > data.len() || length < space + 2 || data[length - 1] != b'\n' {
                return Err(TarError::PaxRecord);
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|&byte| byte == b'=');
            let (key, value) = record.split_at(equals.ok_or(TarError::PaxRecord)?);
            let (key, value) = (key.to_vec(), value[1..].to_vec());
            let is_text = !key.starts_with(XATTR);
            if key.is_empty() || key.contains(&0) || (is_text && value.contains(&0)) {
                return Err(TarError::PaxRecord);
            }
            records.push((key, value));
            data = &data[length..];
        }
        Ok(Self(records))
    }

    /// Adds the records of a later header; on equal keys they count.
    pub(crate) fn extend(&mut self, later: Records) {
        self.0.extend(later.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// Returns the last value of `key`; an empty one takes the record back.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let last = self.0.iter().rev().find(|(name, _)| name == key);
        last.map(|(_, value)| value.as_slice())
            .filter(|value| !value.is_empty())
    }

    /// Returns the number in the record `key`.
    pub(crate) fn number(&self, key: &'static str) -> Result<Option<u64>, TarError> {
        let Some(value) = self.get(key.as_bytes()) else {
            return Ok(None);
        };
        decimal(value)
            .map(Some)
            .ok_or(TarError::Number { field: key })
    }
}

/// Reads decimal digits and nothing else.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `seconds[.fraction]`, perhaps negative.
pub(crate) fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = text.split_at(point.unwrap_or(text.len()));
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut digits = [b'0'; NANOSECOND_DIGITS];
    let length = fraction.len().min(NANOSECOND_DIGITS);
    digits[..length].copy_from_slice(&fraction[..length]);
    let nanoseconds = u32::try_from(decimal(&digits)?).ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// Returns the text of a time, without trailing zeros.
pub(crate) fn timestamp_text(time: Timestamp) -> Vec<u8> {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, part) => ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - part),
        (false, part) => ("", time.seconds.unsigned_abs(), part),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0')
        .trim_end_matches('.')
        .as_bytes()
        .to_vec()
}

/// Appends one record to `data`.
pub(crate) fn push(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // " ", "=" and "\n", and the digits of the length, which count themselves.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    data.extend_from_slice(length.to_string().as_bytes());
    data.push(b' ');
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_records_read_back() {
        let mut data = Vec::new();
        let values: Vec<Vec<u8>> = (0..1100).map(|length| vec![b'v'; length]).collect();
        for value in &values {
            push(&mut data, b"SCHILY.xattr.user.x", value);
        }
        let records = Records::parse(&data).expect("valid");
        assert!(
            records
                .iter()
                .map(|(_, value)| value)
                .eq(values.iter().map(Vec::as_slice))
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for data in [
            &b"x"[..],
            b"5 a=b",
            b"7 a=b\n",
            b"6 a=bc",
            b"3 \n",
            b"6 abc\n",
            b"5 =b\n",
            b"+6 a=b\n",
            b"99999999999999999999 a=b\n",
            b"11 path=a\0b\n",
        ] {
            assert!(Records::parse(data).is_err(), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn times_read_as_they_are_written() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1350244992.023960108", 1_350_244_992, 23_960_108),
            ("1.5", 1, 500_000_000),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.5", -1, 500_000_000),
        ] {
            let time = Timestamp {
                seconds,
                nanoseconds,
            };
            assert_eq!(timestamp(text.as_bytes()), Some(time), "{text}");
            assert_eq!(timestamp_text(time), text.as_bytes());
        }
        let cut = timestamp(b"1.0000000019");
        assert_eq!(
            cut,
            Some(Timestamp {
                seconds: 1,
                nanoseconds: 1
            })
        );
        for text in ["", ".", "-", "1.x", "1e3", " 1", "99999999999999999999"] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
    }
}
