//! Cutting the arguments of an instruction, without expanding them.

/// White space between arguments.
const SPACES: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// An instruction, cut once.
pub(crate) struct Cut {
    pub(crate) keyword: String,
    pub(crate) flags: Vec<String>,
    pub(crate) rest: String,
}

/// Cuts a line into its keyword, its flags and the rest.
pub(crate) fn cut(line: &str, escape: char) -> Cut {
    let (keyword, rest) = split_once(line.trim());
    let (flags, rest) = match rest {
        Some(rest) => take_flags(rest, escape),
        None => (Vec::new(), ""),
    };
    Cut {
        keyword: keyword.to_owned(),
        flags,
        rest: rest.trim().to_owned(),
    }
}

/// Splits at the first white space.
pub(crate) fn split_once(text: &str) -> (&str, Option<&str>) {
    match text.split_once(SPACES) {
        Some((first, rest)) => (first, Some(rest.trim_start_matches(SPACES))),
        None => (text, None),
    }
}

/// Splits at white space, whatever the quotes.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (word, after) = split_once(text);
        words.push(word.to_owned());
        rest = after;
    }
    words
}

/// Takes the words that start with `--` from the start of `line`; `--` alone ends them. Quotes
/// and escapes of the flags are removed.
fn take_flags(line: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (flag, after) = take_flag(rest, escape);
        if flag == "--" {
            return (flags, after);
        }
        flags.push(flag);
        rest = after.trim_start();
    }
    (flags, rest)
}

/// Returns the first word and the text after it.
fn take_flag(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, &text[at..]),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.push(c),
        }
    }
    (word, "")
}

/// Splits at white space outside of quotes; quotes and escapes are kept. Nothing is escaped
/// between single quotes.
pub(crate) fn split_quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert_default();
        if c == escape && quote != Some('\'') {
            // An escape character at the very end is dropped.
            if let Some(escaped) = chars.next() {
                current.push(c);
                current.push(escaped);
            } else if current.is_empty() {
                word = None;
            }
            continue;
        }
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        current.push(c);
    }
    words.extend(word);
    words
}
