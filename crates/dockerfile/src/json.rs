//! JSON arrays of strings, as Go reads them.

use serde_json::Value;

use crate::error::ParseErrorKind;

/// Reads the elements of a JSON array; `None` when the text is no JSON array.
pub(crate) fn strings(text: &str) -> Result<Option<Vec<String>>, ParseErrorKind> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(elements) = serde_json::from_str::<Vec<Value>>(&without_halves(text)) else {
        return Ok(None);
    };
    let string = |element| match element {
        Value::String(word) => Ok(word),
        _ => Err(ParseErrorKind::NotStringArray),
    };
    elements
        .into_iter()
        .map(string)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Go takes half of a surrogate pair as U+FFFD, `serde_json` as an error.
fn without_halves(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (escaped(rest), rest.get(6..).and_then(escaped)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push('\u{fffd}');
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => rest.chars().take(2).map(char::len_utf8).sum(),
        };
        mended.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    mended.push_str(rest);
    mended
}

/// Returns the code of `\uXXXX` at the start.
fn escaped(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let all_digits = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| all_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_in_go() {
        for (text, expected) in [
            (r#"["a", "b\n"]"#, Some(vec!["a", "b\n"])),
            (
                r#"["\ud83d\ude80", "\ud83dx", "\ude80\ud83d", "\\ud83d"]"#,
                Some(vec!["🚀", "\u{fffd}x", "\u{fffd}\u{fffd}", "\\ud83d"]),
            ),
            (r#"["\ud83d\n"]"#, Some(vec!["\u{fffd}\n"])),
            ("[]", Some(vec![])),
            (r#"["a\"#, None),
            (r#"["\u+123"]"#, None),
            ("['a']", None),
            ("x", None),
        ] {
            let expected = expected.map(|words| words.into_iter().map(str::to_owned).collect());
            assert_eq!(strings(text), Ok(expected), "{text}");
        }
        assert_eq!(strings("[[]]"), Err(ParseErrorKind::NotStringArray));
    }
}
