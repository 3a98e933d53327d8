//! Parser directives: `# name=value` lines at the very top of a text.

use serde_json::Value;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The program that the author wants a text to be read by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// Its image.
    pub image: String,
    /// The line that names it, counted from 1; 0 in a JSON object.
    pub line: u32,
}

impl Frontend {
    /// Returns the frontend that a text names: `# syntax=IMAGE`, and in texts that are no
    /// Dockerfiles `// syntax=IMAGE`, or the key `syntax` of a JSON object.
    pub fn of(text: &[u8]) -> Option<Self> {
        find(text, "syntax", "#").or_else(|| Self::of_other_language(text))
    }

    /// As [`Frontend::of`], but only of texts that cannot be Dockerfiles.
    pub(crate) fn of_other_language(text: &[u8]) -> Option<Self> {
        find(text, "syntax", "//").or_else(|| {
            let (body, _) = body(text);
            let object: Value = serde_json::from_slice(body).ok()?;
            Some(Self {
                image: object.as_object()?.get("syntax")?.as_str()?.to_owned(),
                line: 0,
            })
        })
    }
}

/// Returns the first word of the directive `check`, and its line.
pub(crate) fn check(text: &[u8]) -> Option<(String, u32)> {
    find(text, "check", "#").map(|found| (found.image, found.line))
}

/// Finds a directive as BuildKit does for those that are not the parser's own: a first line `#!…`
/// does not end them, spaces before the mark do. Only the first word of the value counts.
fn find(text: &[u8], wanted: &str, mark: &str) -> Option<Frontend> {
    let (body, skipped) = body(text);
    for (number, line) in (skipped + 1..).zip(body.split(|b| *b == b'\n')) {
        let line = String::from_utf8_lossy(line);
        let (name, value) = parse(line.strip_prefix(mark)?.trim_start())?;
        if name == wanted {
            let image = value.split(' ').next().unwrap_or_default().to_owned();
            return Some(Frontend {
                image,
                line: number,
            });
        }
    }
    None
}

/// Returns the text behind a first line `#!…`, and how many lines that is.
fn body(text: &[u8]) -> (&[u8], u32) {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if !text.starts_with(b"#!") {
        return (text, 0);
    }
    let end = text.iter().position(|b| *b == b'\n');
    (end.map_or(&[], |end| &text[end + 1..]), 1)
}

/// Reads `name = value` if the name is that of a directive.
pub(crate) fn parse(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim_end().to_ascii_lowercase();
    let known = matches!(name.as_str(), "syntax" | "escape" | "check");
    let value = value.trim();
    (known && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontend(text: &str) -> Option<(String, u32)> {
        Frontend::of(text.as_bytes()).map(|found| (found.image, found.line))
    }

    #[test]
    fn a_frontend_is_named_in_the_way_of_the_language() {
        for (text, expected) in [
            (
                "# check=skip=all\n#syntax = a/b:1 more\nFROM x",
                Some(("a/b:1", 2)),
            ),
            ("\u{feff}# syntax=a\nFROM x", Some(("a", 1))),
            ("#!/usr/bin/env x\n# syntax=a\r\n", Some(("a", 2))),
            ("// syntax=a\nanything", Some(("a", 1))),
            ("{\n \"syntax\": \"a\"\n}", Some(("a", 0))),
            ("# hello\n# syntax=a\n", None),
            ("#!/bin/sh\n\n# syntax=a\n", None),
            (" # syntax=a\n", None),
            ("FROM x\n# syntax=a\n", None),
            ("{\"syntax\": \"a\"} more", None),
            ("{\"syntax\": 1}", None),
            ("#!", None),
            ("", None),
        ] {
            let expected = expected.map(|(image, line)| (image.to_owned(), line));
            assert_eq!(frontend(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_first_word_of_check_counts_also_below_a_shebang() {
        let check = |text: &str| check(text.as_bytes());
        let found = |text: &str, line| Some((text.to_owned(), line));
        assert_eq!(check("#check=skip=all // all\n"), found("skip=all", 1));
        assert_eq!(check("#!x\n# check=error=true\n"), found("error=true", 2));
        assert_eq!(check("//check=skip=all\n"), None);
    }
}
