//! Words with variables.

use std::collections::BTreeSet;

use dockerfile::expand;

use crate::parts::parts;

/// Longer patterns and values are not compared with the model, which tries every end.
const MAX_MODEL: usize = 24;

/// The forms that cut a pattern off.
const TRIMMED: [&str; 4] = ["${V#$P}", "${V##$P}", "${V%$P}", "${V%%$P}"];

/// `data` is a text, the values of the variables `V` and `P`, and a plain word, separated. The text
/// expands or says why not. A text without signs is itself, also between single quotes and with
/// every character escaped. `V` without what the pattern `P` matches is what the model says.
pub fn expansion(data: &[u8]) {
    let parts: Vec<_> = parts(data).map(String::from_utf8_lossy).collect();
    let part = |index: usize| parts.get(index).map_or("", |part| part.as_ref());
    let (text, value, pattern) = (part(0), part(1), part(2));
    let word: String = part(3).chars().filter(|c| c.is_alphanumeric()).collect();
    let variable = |name: &str| match name {
        "V" => Some(value.to_owned()),
        "P" => Some(pattern.to_owned()),
        _ => None,
    };
    for escape in ['\\', '`'] {
        free(text, &variable, escape);
        itself(text, &variable, escape);
    }
    alternatives(value, &word);
    if value.chars().count() <= MAX_MODEL && pattern.chars().count() <= MAX_MODEL {
        // A pattern takes a millisecond to compile: one form for each input.
        match TRIMMED.get(text.len() % (TRIMMED.len() + 1)) {
            Some(form) => trimmed(form, value, pattern),
            None => replaced(value, pattern, &word),
        }
    }
}

fn free(text: &str, variable: &expand::Variables<'_>, escape: char) {
    let words = expand::words(text, variable, escape);
    match expand::expand(text, variable, escape) {
        Ok(expansion) => {
            let known: BTreeSet<String> = ["P", "V"].map(str::to_owned).into();
            assert!(expansion.used.is_subset(&known), "{expansion:?}");
            assert!(expansion.unset.iter().all(|name| !known.contains(name)));
            let words = words.expect("what expands splits");
            // Splitting drops white space only.
            let packed = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(packed(&words.concat()), packed(&expansion.text));
        }
        Err(error) => {
            assert!(words.is_err() && !error.to_string().is_empty() && !error.hint().is_empty());
        }
    }
    let _raw = expand::raw(text, variable, escape);
}

fn itself(text: &str, variable: &expand::Variables<'_>, escape: char) {
    let expanded = |text: &str| expand::word(text, variable, escape);
    if !text.contains(['$', '\'', '"', escape]) {
        assert_eq!(expanded(text).as_deref(), Ok(text));
        // White space behind `<<` belongs to its word.
        if !text.contains("<<") {
            let words = text.split_whitespace().map(str::to_owned).collect();
            assert_eq!(expand::words(text, variable, escape), Ok(words));
        }
    }
    if !text.contains('\'') {
        assert_eq!(expanded(&format!("'{text}'")).as_deref(), Ok(text));
    }
    let escaped: String = text.chars().flat_map(|c| [escape, c]).collect();
    assert_eq!(expanded(&escaped).as_deref(), Ok(text));
}

/// The forms that choose between a value and a word.
fn alternatives(value: &str, word: &str) {
    let variable = |name: &str| (name == "V").then(|| value.to_owned());
    let unless_empty = if value.is_empty() { word } else { value };
    let if_full = if value.is_empty() { "" } else { word };
    for (form, expected) in [
        ("${V}".to_owned(), value),
        (format!("${{V-{word}}}"), value),
        (format!("${{V:-{word}}}"), unless_empty),
        (format!("${{V+{word}}}"), word),
        (format!("${{V:+{word}}}"), if_full),
        (format!("${{V?{word}}}"), value),
        (format!("${{W-{word}}}"), word),
        (format!("${{W:-{word}}}"), word),
        (format!("${{W+{word}}}"), ""),
        (format!("${{W:+{word}}}"), ""),
        (format!("\"${{V:-{word}}}\""), unless_empty),
    ] {
        assert_eq!(
            expand::word(&form, &variable, '\\').as_deref(),
            Ok(expected),
            "{form}"
        );
    }
    assert!(expand::word(&format!("${{W?{word}}}"), &variable, '\\').is_err());
}

/// A pattern, read a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Star,
    Any,
    One(char),
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Star,
            '?' => Piece::Any,
            '\\' => match chars.next()? {
                escaped @ ('*' | '?' | '\\' | '/' | '}') => Piece::One(escaped),
                _ => return None,
            },
            c => Piece::One(c),
        });
    }
    Some(pieces)
}

/// Tells whether all of `text` matches: a star takes any number of characters, but no line ends.
fn matches(pieces: &[Piece], text: &[char]) -> bool {
    let mut reached = vec![true];
    reached.resize(text.len() + 1, false);
    for piece in pieces {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            let steps_to = |next: &mut Vec<bool>, fits: bool| {
                if fits && at < text.len() {
                    next[at + 1] = true;
                }
            };
            match piece {
                Piece::Star => {
                    next[at] |= reached[at];
                    let carries = next[at] && text.get(at) != Some(&'\n');
                    steps_to(&mut next, carries);
                }
                Piece::Any => steps_to(&mut next, reached[at] && text.get(at) != Some(&'\n')),
                Piece::One(c) => steps_to(&mut next, reached[at] && text.get(at) == Some(c)),
            }
        }
        reached = next;
    }
    reached[text.len()]
}

fn trimmed(form: &str, value: &str, pattern: &str) {
    let sign = if form.contains('#') { '#' } else { '%' };
    // A pattern that begins with the sign itself would be the longer form.
    if pattern.starts_with(sign) {
        return;
    }
    let variable = |name: &str| match name {
        "V" => Some(value.to_owned()),
        "P" => Some(pattern.to_owned()),
        _ => None,
    };
    let found = expand::word(form, &variable, '\\');
    let Some(pieces) = pieces(pattern) else {
        assert!(found.is_err(), "{form} {pattern:?}");
        return;
    };
    let chars: Vec<char> = value.chars().collect();
    let mut lengths: Vec<usize> = (0..=chars.len()).collect();
    if form.contains("##") || form.contains("%%") {
        lengths.reverse();
    }
    // The part that is cut off when it has this length, and the part that stays.
    let split = |length: usize| match (sign, chars.len() - length) {
        ('#', _) => (&chars[..length], &chars[length..]),
        (_, start) => (&chars[start..], &chars[..start]),
    };
    let length = lengths
        .into_iter()
        .find(|length| matches(&pieces, split(*length).0));
    let expected: String = split(length.unwrap_or(0)).1.iter().collect();
    assert_eq!(
        found.as_deref(),
        Ok(expected.as_str()),
        "{form} {value:?} {pattern:?}"
    );
}

/// A pattern that is nothing but text is replaced as text.
fn replaced(value: &str, pattern: &str, word: &str) {
    if pattern.is_empty() {
        return;
    }
    let plain: String = pattern
        .chars()
        .flat_map(|c| match c {
            '*' | '?' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    let variable = |name: &str| match name {
        "V" => Some(value.to_owned()),
        "P" => Some(plain.clone()),
        _ => None,
    };
    let first = expand::word(&format!("${{V/$P/{word}}}"), &variable, '\\');
    assert_eq!(
        first.as_deref(),
        Ok(value.replacen(pattern, word, 1).as_str())
    );
    let all = expand::word(&format!("${{V//$P/{word}}}"), &variable, '\\');
    assert_eq!(all.as_deref(), Ok(value.replace(pattern, word).as_str()));
}
