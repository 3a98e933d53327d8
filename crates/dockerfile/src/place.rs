//! Finding a word of an instruction in the text.

use crate::{Span, lines};

/// Returns the line and column, counted from 1, of `word` in the lines of `span`: where it stands
/// as a whole, else where it stands at all. When it does not, or there is none, it is where the
/// first line begins.
pub fn place(text: &[u8], span: Span, word: Option<&str>) -> (u32, u32) {
    let text = String::from_utf8_lossy(text);
    let first = usize::try_from(span.start.saturating_sub(1)).unwrap_or(usize::MAX);
    let last = usize::try_from(span.end).unwrap_or(usize::MAX);
    let lines = || {
        let lines = (1_u32..).zip(text.split('\n').map(lines::trim_end));
        lines.take(last).skip(first)
    };
    let find = |find: &dyn Fn(&str) -> Option<usize>| {
        lines().find_map(|(number, line)| Some((number, column(line, find(line)?))))
    };
    let word = word.filter(|word| !word.is_empty());
    let found = word
        .and_then(|word| find(&|line| whole(line, word)).or_else(|| find(&|line| line.find(word))));
    found.unwrap_or_else(|| match lines().next() {
        Some((number, line)) => (number, column(line, line.len() - line.trim_start().len())),
        None => (span.start.max(1), 1),
    })
}

fn column(line: &str, at: usize) -> u32 {
    let before = u32::try_from(line[..at].chars().count());
    before.map_or(u32::MAX, |before| before.saturating_add(1))
}

/// Finds a word that is no part of a longer one.
fn whole(line: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let continues = |inner: Option<char>, outer: Option<char>| {
        inner.is_some_and(is_part) && outer.is_some_and(is_part)
    };
    let mut found = line.match_indices(word).map(|(at, _)| at);
    found.find(|at| {
        let (before, after) = (&line[..*at], &line[at + word.len()..]);
        !continues(word.chars().next(), before.chars().next_back())
            && !continues(word.chars().next_back(), after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_it_stands_as_a_whole() {
        let text = "FROM a\n  copy \\\n  --from=m amm m /ü m\n".as_bytes();
        let span = Span { start: 2, end: 3 };
        for (word, expected) in [
            (Some("m"), (3, 10)),
            (Some("mm"), (3, 13)),
            (Some("--from"), (3, 3)),
            (Some("/ü"), (3, 18)),
            (Some("a"), (3, 12)),
            (Some("nowhere"), (2, 3)),
            (Some(""), (2, 3)),
            (None, (2, 3)),
        ] {
            assert_eq!(place(text, span, word), expected, "{word:?}");
        }
        assert_eq!(place(b"", Span { start: 9, end: 9 }, None), (9, 1));
        assert_eq!(place(b"a", Span::default(), None), (1, 1));
    }
}
