//! Finding heredocs in a line.

use crate::Heredoc;
use crate::expand::{self, ExpandError, Mode, Quotes};

impl Heredoc {
    /// Reads a word such as `3<<-"NAME"`; `None` when it is no heredoc. The content is empty.
    pub fn parse(word: &str) -> Result<Option<Self>, ExpandError> {
        from_word(word)
    }

    /// Returns the heredocs that the words of `line` open, their contents empty.
    pub fn all_in(line: &str) -> Result<Vec<Self>, ExpandError> {
        in_line(line)
    }
}

/// Returns the heredocs that `line` opens, their contents empty.
pub(crate) fn in_line(line: &str) -> Result<Vec<Heredoc>, ExpandError> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    // A line whose quotes do not match is the shell's business: it has no heredoc for us.
    let Ok(words) = lex(line, Quotes::Keep, true) else {
        return Ok(Vec::new());
    };
    let mut heredocs = Vec::new();
    for word in &words {
        heredocs.extend(from_word(word)?);
    }
    Ok(heredocs)
}

/// Returns whether `text` is a heredoc and nothing else.
pub(crate) fn is_heredoc(text: &str) -> bool {
    matches!(from_word(text), Ok(Some(_)))
}

/// Reads `3<<-"NAME"`.
pub(crate) fn from_word(word: &str) -> Result<Option<Heredoc>, ExpandError> {
    let after_digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &word[..word.len() - after_digits.len()];
    let Some(rest) = after_digits.strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let names = lex(rest, Quotes::Remove, false)?;
    let [name] = names.as_slice() else {
        return Ok(None);
    };
    let quoted = lex(rest, Quotes::Keep, false)?;
    let marks = |words: &[String]| -> usize {
        let marks = |word: &String| word.matches(['\'', '"']).count();
        words.iter().map(marks).sum()
    };
    Ok(Some(Heredoc {
        name: name.clone(),
        content: String::new(),
        expand: marks(&names) == marks(&quoted),
        chomp,
        file_descriptor: digits.parse().unwrap_or_default(),
    }))
}

/// Splits into words without knowing any variable. The escape character of heredocs is always
/// the backslash.
fn lex(text: &str, quotes: Quotes, keep_escapes: bool) -> Result<Vec<String>, ExpandError> {
    let mode = Mode {
        escape: '\\',
        quotes,
        keep_escapes,
        keep_unset: true,
    };
    expand::lex(text, &|_| None, mode).map(|lexed| lexed.words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        let heredocs = in_line(line).expect("valid");
        heredocs.into_iter().map(|heredoc| heredoc.name).collect()
    }

    #[test]
    fn heredocs_are_found_where_a_shell_sees_them() {
        for (line, expected) in [
            ("RUN <<EOF", vec!["EOF"]),
            ("RUN << EOF", vec!["EOF"]),
            ("RUN cat <<A <<B > f", vec!["A", "B"]),
            ("RUN 3<<-'E F' cat", vec!["E F"]),
            ("RUN echo \"<<EOF\"", vec![]),
            ("RUN echo '<<EOF'", vec![]),
            ("RUN cat <<<word", vec![]),
            ("RUN echo $((1<<EOF))", vec![]),
            ("RUN echo it's <<EOF", vec![]),
            ("COPY <<a.txt <<b.txt /", vec!["a.txt", "b.txt"]),
            ("RUN <<$X", vec!["$X"]),
        ] {
            assert_eq!(names(line), expected, "{line}");
        }
    }

    #[test]
    fn a_quoted_name_stops_expansion() {
        for (word, expand, chomp, file_descriptor) in [
            ("<<EOF", true, false, 0),
            ("<<-EOF", true, true, 0),
            ("<<\"EOF\"", false, false, 0),
            ("4<<-'EOF'", false, true, 4),
            ("<<E\"O\"F", false, false, 0),
        ] {
            let heredoc = from_word(word).expect("valid").expect("a heredoc");
            assert_eq!(heredoc.name, "EOF");
            assert_eq!(
                (heredoc.expand, heredoc.chomp, heredoc.file_descriptor),
                (expand, chomp, file_descriptor),
                "{word}"
            );
        }
    }
}
