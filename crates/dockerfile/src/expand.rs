//! Expansion of variables in words, as BuildKit's shell lexer does it.
//!
//! Known forms: `$x`, `${x}`, `${x-y}`, `${x+y}`, `${x?y}` (with `:` before the sign an empty
//! value counts as unset), `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`, `${x/p/r}`, `${x//p/r}`,
//! all of them nested. Single quotes keep everything, double quotes keep all but variables and
//! escapes.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use crate::glob::{self, Greed, ShellPatternError};

/// Deeper nesting of `${…}` is refused: each level is a level of the call stack.
const MAX_DEPTH: usize = 64;

/// The result of an expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// The variables that were set.
    pub used: BTreeSet<String>,
    /// The variables that were not set, in order of appearance, each once.
    pub unset: Vec<String>,
}

/// Why a word does not expand. `Display` is BuildKit's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {kind}")]
pub struct ExpandError {
    /// The word.
    pub word: String,
    /// What is wrong with it.
    #[source]
    pub kind: ExpandErrorKind,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandErrorKind {
    /// A quote is not closed.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    UnclosedQuote(&'static str),
    /// `${` without `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${x/` without a second `/`.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}` and the like.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// The sign after the name means nothing.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${x?message}`, and `x` is not set.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The author's message, or the default one.
        message: String,
    },
    /// A pattern is malformed.
    #[error("invalid pattern ({pattern}) in substitution: {source}")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: ShellPatternError,
    },
    /// `${…}` is nested too deeply.
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// Looks up the value of a variable.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Returns `text` with its variables replaced and its quotes and escapes removed.
pub fn word(text: &str, variable: &Variables<'_>, escape: char) -> Result<String, ExpandError> {
    expand(text, variable, escape).map(|expansion| expansion.text)
}

/// As [`word`], and reports the variables that were used.
pub fn expand(
    text: &str,
    variable: &Variables<'_>,
    escape: char,
) -> Result<Expansion, ExpandError> {
    let lexed = lex(text, variable, Mode::word(escape))?;
    Ok(lexed.expansion)
}

/// As [`word`], and splits the result where unquoted white space stands.
pub fn words(
    text: &str,
    variable: &Variables<'_>,
    escape: char,
) -> Result<Vec<String>, ExpandError> {
    let lexed = lex(text, variable, Mode::word(escape))?;
    Ok(lexed.words)
}

/// As [`word`], but quotes mean nothing and are kept: the content of a heredoc of `COPY` or
/// `ADD`, where docker takes the backslash as `escape` whatever the directive says.
pub fn raw(text: &str, variable: &Variables<'_>, escape: char) -> Result<String, ExpandError> {
    expand_raw(text, variable, escape).map(|expansion| expansion.text)
}

/// As [`raw`], and reports the variables that were used.
pub fn expand_raw(
    text: &str,
    variable: &Variables<'_>,
    escape: char,
) -> Result<Expansion, ExpandError> {
    let mode = Mode {
        quotes: Quotes::AreText,
        ..Mode::word(escape)
    };
    lex(text, variable, mode).map(|lexed| lexed.expansion)
}

/// What the lexer does with quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// They group, and are removed.
    Remove,
    /// They group, and are kept.
    Keep,
    /// They mean nothing.
    AreText,
}

/// How text is lexed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) escape: char,
    pub(crate) quotes: Quotes,
    pub(crate) keep_escapes: bool,
    pub(crate) keep_unset: bool,
}

impl Mode {
    fn word(escape: char) -> Self {
        Self {
            escape,
            quotes: Quotes::Remove,
            keep_escapes: false,
            keep_unset: false,
        }
    }
}

/// What the lexer returns.
#[derive(Debug, Default)]
pub(crate) struct Lexed {
    expansion: Expansion,
    pub(crate) words: Vec<String>,
}

pub(crate) fn lex(text: &str, variable: &Variables<'_>, mode: Mode) -> Result<Lexed, ExpandError> {
    let mut lexer = Lexer {
        chars: text.chars().peekable(),
        variable,
        mode,
        keep_escapes: mode.keep_escapes,
        depth: 0,
        used: BTreeSet::new(),
        unset: Vec::new(),
    };
    let collected = lexer.scan(None).map_err(|kind| ExpandError {
        word: text.to_owned(),
        kind,
    })?;
    Ok(Lexed {
        expansion: Expansion {
            text: collected.text,
            used: lexer.used,
            unset: lexer.unset,
        },
        words: collected.words,
    })
}

/// Text that is collected as a whole and split into words at the same time.
#[derive(Debug, Default)]
struct Collected {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Collected {
    fn push(&mut self, c: char) {
        self.text.push(c);
        self.split(c);
    }

    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn push_value(&mut self, value: &str) {
        self.text.push_str(value);
        for c in value.chars() {
            self.split(c);
        }
    }

    fn split(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Self {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self
    }
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    variable: &'a Variables<'a>,
    mode: Mode,
    keep_escapes: bool,
    depth: usize,
    used: BTreeSet<String>,
    unset: Vec<String>,
}

impl Lexer<'_> {
    /// Reads up to `stop` and past it, or to the end of the text.
    fn scan(&mut self, stop: Option<char>) -> Result<Collected, ExpandErrorKind> {
        let mut collected = Collected::default();
        while let Some(&c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                return Ok(collected.finish());
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    collected.push_value(&value);
                }
                '<' => collected.push_quoted(&self.less_than()),
                '\'' if self.mode.quotes != Quotes::AreText => {
                    collected.push_quoted(&self.single_quoted()?);
                }
                '"' if self.mode.quotes != Quotes::AreText => {
                    collected.push_quoted(&self.double_quoted()?);
                }
                _ => {
                    self.chars.next();
                    if c != self.mode.escape {
                        collected.push(c);
                        continue;
                    }
                    let mut buffer = [0; 4];
                    if self.keep_escapes {
                        collected.push_quoted(c.encode_utf8(&mut buffer));
                    }
                    if let Some(escaped) = self.chars.next() {
                        collected.push_quoted(escaped.encode_utf8(&mut buffer));
                    }
                }
            }
        }
        match stop {
            Some('/') => Err(ExpandErrorKind::MissingSlash),
            Some(_) => Err(ExpandErrorKind::MissingBrace),
            None => Ok(collected.finish()),
        }
    }

    /// Reads a part of `${…}` up to `stop`.
    fn part(&mut self, stop: char, keep_escapes: bool) -> Result<String, ExpandErrorKind> {
        if self.depth == MAX_DEPTH {
            return Err(ExpandErrorKind::TooDeep);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let collected = self.scan(Some(stop));
        self.keep_escapes = outer;
        self.depth -= 1;
        collected.map(|collected| collected.text)
    }

    fn single_quoted(&mut self) -> Result<String, ExpandErrorKind> {
        let mut text = String::new();
        self.quote_mark(&mut text);
        loop {
            match self.chars.peek() {
                None => return Err(ExpandErrorKind::UnclosedQuote("single")),
                Some('\'') => {
                    self.quote_mark(&mut text);
                    return Ok(text);
                }
                Some(_) => text.extend(self.chars.next()),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, ExpandErrorKind> {
        let mut text = String::new();
        self.quote_mark(&mut text);
        loop {
            match self.chars.peek().copied() {
                None => return Err(ExpandErrorKind::UnclosedQuote("double")),
                Some('"') => {
                    self.quote_mark(&mut text);
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) => {
                    self.chars.next();
                    if c != self.mode.escape {
                        text.push(c);
                        continue;
                    }
                    if self.keep_escapes {
                        text.push(c);
                    }
                    match self.chars.peek() {
                        None => {}
                        Some(&next) if next == '"' || next == '$' || next == self.mode.escape => {
                            text.extend(self.chars.next());
                        }
                        Some(_) => text.push(c),
                    }
                }
            }
        }
    }

    fn quote_mark(&mut self, text: &mut String) {
        let mark = self.chars.next();
        if self.mode.quotes == Quotes::Keep {
            text.extend(mark);
        }
    }

    /// Reads `<`, or `<<` with the white space after it, so that `<< NAME` is one word.
    fn less_than(&mut self) -> String {
        self.chars.next();
        if self.chars.next_if_eq(&'<').is_none() {
            return "<".to_owned();
        }
        let mut text = "<<".to_owned();
        while let Some(space) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
            text.push(space);
        }
        text
    }

    fn dollar(&mut self) -> Result<String, ExpandErrorKind> {
        self.chars.next();
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value(&name);
            return Ok(self.or_source(value, || format!("${name}")));
        }
        match self.chars.peek() {
            None => return Err(ExpandErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let Some(sign) = self.chars.next() else {
            return Err(ExpandErrorKind::MissingBrace);
        };
        match sign {
            '}' => {
                let value = self.value(&name);
                Ok(self.or_source(value, || format!("${{{name}}}")))
            }
            ':' => match self.chars.next() {
                None => Err(ExpandErrorKind::MissingBrace),
                Some(sign @ ('-' | '+' | '?')) => self.alternative(&name, sign, Empty::IsUnset),
                Some(sign) => Err(ExpandErrorKind::UnsupportedModifier(format!(":{sign}"))),
            },
            '-' | '+' | '?' => self.alternative(&name, sign, Empty::IsSet),
            '#' | '%' => self.trim(&name, sign),
            '/' => self.replace(&name),
            _ => Err(ExpandErrorKind::UnsupportedModifier(sign.to_string())),
        }
    }

    fn alternative(
        &mut self,
        name: &str,
        sign: char,
        empty: Empty,
    ) -> Result<String, ExpandErrorKind> {
        let word = self.part('}', false)?;
        let value = self.value(name);
        if value.is_none() && self.mode.keep_unset {
            let colon = if empty == Empty::IsUnset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{sign}{word}}}"));
        }
        let was_set = value.is_some();
        let value = value.filter(|value| empty == Empty::IsSet || !value.is_empty());
        match (sign, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let default = if was_set {
                    "is not allowed to be empty"
                } else {
                    "is not allowed to be unset"
                };
                let message = if word.is_empty() {
                    default.to_owned()
                } else {
                    word
                };
                Err(ExpandErrorKind::Required {
                    name: name.to_owned(),
                    message,
                })
            }
        }
    }

    fn trim(&mut self, name: &str, sign: char) -> Result<String, ExpandErrorKind> {
        let word = self.part('}', true)?;
        let Some(value) = self.value(name) else {
            return Ok(self.or_source(None, || format!("${{{name}{sign}{word}}}")));
        };
        let (greed, pattern) = match word.strip_prefix(sign) {
            Some(pattern) => (Greed::Longest, pattern),
            None => (Greed::Shortest, word.as_str()),
        };
        let trimmed = match sign {
            '#' => glob::trim_prefix(pattern, &value, greed),
            _ => glob::trim_suffix(pattern, &value, greed),
        };
        trimmed.map_err(|source| ExpandErrorKind::InvalidPattern {
            pattern: pattern.to_owned(),
            source,
        })
    }

    fn replace(&mut self, name: &str) -> Result<String, ExpandErrorKind> {
        let which = match self.chars.next_if_eq(&'/') {
            Some(_) => glob::Which::All,
            None => glob::Which::First,
        };
        let pattern = self.part('/', true)?;
        let replacement = self.part('}', true)?;
        let Some(value) = self.value(name) else {
            return Ok(self.or_source(None, || format!("${{{name}/{pattern}/{replacement}}}")));
        };
        glob::replace(&pattern, &value, &replacement, which)
            .map_err(|source| ExpandErrorKind::InvalidPattern { pattern, source })
    }

    /// Reads a name: digits, one special parameter, or letters, digits and underscores.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(digit) = self.chars.next_if(|c| c.is_numeric()) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                let part = |c: &char| c.is_alphanumeric() || *c == '_';
                while let Some(c) = self.chars.next_if(part) {
                    name.push(c);
                }
            }
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.variable)(name);
        if value.is_some() {
            self.used.insert(name.to_owned());
        } else if !self.unset.iter().any(|unset| unset == name) {
            self.unset.push(name.to_owned());
        }
        value
    }

    fn or_source(&self, value: Option<String>, source: impl Fn() -> String) -> String {
        match value {
            Some(value) => value,
            None if self.mode.keep_unset => source(),
            None => String::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    IsSet,
    IsUnset,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let variable = |name: &str| match name {
            "x" => Some("foo/bar.tar.gz".to_owned()),
            "empty" => Some(String::new()),
            "star" => Some("a*b".to_owned()),
            _ => None,
        };
        let found = word(text, &variable, '\\').map_err(|error| error.kind.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn every_form_of_substitution_expands() {
        check("${x#*/}", Ok("bar.tar.gz"));
        check("${x%.*}", Ok("foo/bar.tar"));
        check("${x%%.*}", Ok("foo/bar"));
        check("${x##*a}", Ok("r.gz"));
        check("${x/bar/baz}", Ok("foo/baz.tar.gz"));
        check("${x//a/A}", Ok("foo/bAr.tAr.gz"));
        check("${x//\\//-}", Ok("foo-bar.tar.gz"));
        check("${x/?o/}", Ok("o/bar.tar.gz"));
        check("${star#a\\*}", Ok("b"));
        check("${star%\\*b}", Ok("a"));
        check("${y:-${x%%/*}}", Ok("foo"));
        check("${empty:-d}${empty-d}${empty:+d}${empty+d}", Ok("dd"));
        check("${y?no y}", Err("y: no y"));
        check("${empty:?}", Err("empty: is not allowed to be empty"));
        check("${x/a", Err("syntax error: missing '/' in ${}"));
        check("${x#[a]}", Ok("foo/bar.tar.gz"));
        check(
            "${x#\\q}",
            Err("invalid pattern (\\q) in substitution: invalid escape '\\q'"),
        );
        check("${x=1}", Err("unsupported modifier (=) in substitution"));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}{}", "${y:-".repeat(5000), "}".repeat(5000));
        check(&deep, Err("substitutions are nested more than 64 deep"));
    }

    #[test]
    fn another_escape_character_leaves_backslashes_alone() {
        let found = word("c:\\win`$x", &|_| None, '`');
        assert_eq!(found.as_deref(), Ok("c:\\win$x"));
    }

    #[test]
    fn words_split_after_expansion_but_not_in_quotes() {
        let variable = |_: &str| Some("80 81".to_owned());
        let found = words("a$p\"$p\"", &variable, '\\');
        assert_eq!(found, Ok(vec!["a80".to_owned(), "8180 81".to_owned()]));
    }

    #[test]
    fn heredoc_content_keeps_its_quotes() {
        let found = raw("echo \"$x\" '\\$x'\n", &|_| Some("1".to_owned()), '\\');
        assert_eq!(found.as_deref(), Ok("echo \"1\" '$x'\n"));
    }
}
