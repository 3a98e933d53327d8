//! Byte ranges, as requests ask for them and answers give them.

/// The `Content-Range` of an answer: `bytes 0-99/200`.
/// [RFC 9110, 14.4](https://www.rfc-editor.org/rfc/rfc9110#section-14.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) total: Option<u64>,
}

/// The `Range` of a request: `bytes=100-` or `bytes=0-99` or `bytes=-100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// From an offset, to an inclusive end or the end of the content.
    From { first: u64, last: Option<u64> },
    /// The last bytes.
    Suffix { length: u64 },
}

impl ContentRange {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix("bytes")?.trim_start();
        let (range, total) = text.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (number(first)?, number(last)?);
        let total = match total.trim() {
            "*" => None,
            total => Some(number(total)?),
        };
        let sound = first <= last && total.is_none_or(|total| last < total);
        sound.then_some(Self { first, total })
    }
}

impl ByteRange {
    /// Parses a single range; several at once are not supported, which a server may ignore.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        let (first, last) = (first.trim(), last.trim());
        if first.is_empty() {
            return Some(Self::Suffix {
                length: number(last)?,
            });
        }
        let first = number(first)?;
        let last = match last {
            "" => None,
            last => Some(number(last)?),
        };
        (last.is_none_or(|last| first <= last)).then_some(Self::From { first, last })
    }

    /// Returns offset and length of the range in content of `size` bytes; `None` when it lies
    /// outside.
    pub(crate) fn within(self, size: u64) -> Option<(u64, u64)> {
        let (first, end) = match self {
            Self::From { first, last } => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                (first, end)
            }
            Self::Suffix { length } => (size.saturating_sub(length), size),
        };
        (first < end).then(|| (first, end - first))
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_parsed_strictly() {
        let range = |first, total| Some(ContentRange { first, total });
        for (text, expected) in [
            ("bytes 0-99/200", range(0, Some(200))),
            ("bytes 5-5/6", range(5, Some(6))),
            ("bytes 5-9/*", range(5, None)),
            ("bytes 9-5/10", None),
            ("bytes 5-10/10", None),
            ("bytes */10", None),
            ("bytes +1-2/3", None),
            ("items 0-1/2", None),
            ("", None),
            ("bytes 0-99999999999999999999/1", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn requested_ranges_are_cut_to_the_content() {
        for (text, expected) in [
            ("bytes=0-", Some((0, 10))),
            ("bytes=3-4", Some((3, 2))),
            ("bytes=3-100", Some((3, 7))),
            ("bytes=-4", Some((6, 4))),
            ("bytes=-40", Some((0, 10))),
            ("bytes=10-", None),
            ("bytes=-0", None),
            ("bytes=4-3", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=18446744073709551615-18446744073709551615", None),
        ] {
            let found = ByteRange::parse(text).and_then(|range| range.within(10));
            assert_eq!(found, expected, "{text}");
        }
    }
}
