//! The box that shows the lines of an error.

use std::fmt::Write as _;

use crate::Span;

const RULE: &str = "--------------------";

/// Returns docker's box around the lines of `span`, each marked with `>>>`, headed by
/// `name:line` and ended by a newline. It is empty when `span` is not in the text.
pub fn excerpt(name: &str, text: &[u8], span: Span) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.split('\n').collect();
    let index = |line: u32| usize::try_from(line).unwrap_or(usize::MAX);
    let (first, last) = (index(span.start), index(span.end.max(span.start)));
    if first == 0 || first > lines.len() {
        return String::new();
    }
    let last = last.min(lines.len());
    let (mut start, mut end) = (first, last);
    let wanted = if start == end { 4 } else { 2 };
    let mut added = 0;
    while added < wanted {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end != lines.len() {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    let mut shown = format!("{}:{first}\n{RULE}\n", visible(name));
    for number in start..=end {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let line = visible(lines[number - 1].trim_end_matches('\r'));
        writeln!(shown, " {number:3} | {mark} {line}").expect("a string takes all text");
    }
    shown.push_str(RULE);
    shown.push('\n');
    shown
}

/// A Dockerfile may come from anyone: its control characters must not reach a terminal.
fn visible(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() && c != '\t' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_is_that_of_docker() {
        let text = b"FROM a\n\nWORKDIR /app\nCOPY package.json .\nRUN exit 7\nCOPY . .\nRUN ls\n";
        assert_eq!(
            excerpt("Dockerfile", text, Span { start: 5, end: 5 }),
            "Dockerfile:5\n--------------------\n   3 |     WORKDIR /app\n   4 |     COPY package.json .\n   5 | >>> RUN exit 7\n   6 |     COPY . .\n   7 |     RUN ls\n--------------------\n"
        );
        assert_eq!(
            excerpt("Dockerfile", b"FROM a\nRUNN b", Span { start: 2, end: 2 }),
            "Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> RUNN b\n--------------------\n"
        );
        assert_eq!(
            excerpt("D", b"a\nb\nc\nd\ne", Span { start: 3, end: 4 }),
            "D:3\n--------------------\n   2 |     b\n   3 | >>> c\n   4 | >>> d\n   5 |     e\n--------------------\n"
        );
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        let shown = excerpt("D", b"RUN \x1b[31m\r\n", Span { start: 1, end: 1 });
        assert!(!shown.contains('\x1b') && !shown.contains('\r'));
    }

    #[test]
    fn lines_outside_of_the_text_show_nothing() {
        assert_eq!(excerpt("D", b"a", Span { start: 0, end: 0 }), "");
        assert_eq!(excerpt("D", b"a", Span { start: 9, end: 9 }), "");
    }
}
