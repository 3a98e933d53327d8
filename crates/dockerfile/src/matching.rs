//! Wildcards over paths: Go's `filepath.Match`, and `**` for any depth.

/// A wildcard pattern is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A bracket is not closed, a range is not one, or a backslash ends the pattern.
    #[error("syntax error in pattern `{0}`")]
    Syntax(String),
    /// `!` without a pattern.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneExclamation,
}

/// A compiled wildcard pattern over a whole slash-separated path. `*` and `?` stay within one
/// component, `[…]` is one character, a backslash takes the next character as it is.
///
/// ```
/// let pattern = dockerfile::matching::Pattern::parse("src/**/*.rs")?;
/// assert!(pattern.matches(b"src/main.rs") && pattern.matches(b"src/a/b/c.rs"));
/// assert!(pattern.may_match_below(b"src/a") && !pattern.may_match_below(b"doc"));
/// # Ok::<(), dockerfile::matching::PatternError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Pattern {
    tokens: Vec<Token>,
    shape: Shape,
}

/// Patterns that need no automaton.
#[derive(Debug, Clone)]
enum Shape {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    /// `**/` and a literal: the whole path, or its last components.
    LastComponents(Vec<u8>),
    /// `**/` and more: the whole path, or what follows one of its slashes.
    AnyDepth(Box<Pattern>),
    /// The automaton runs only on paths with the right start and end.
    General {
        start: Vec<u8>,
        end: Vec<u8>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// One character but no slash.
    Any,
    /// Any number of characters but no slash.
    Star,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Any number of characters.
    Everything,
    /// Nothing, or what the [`Token::Directories`] after it takes.
    Optional,
    /// Any number of characters that end with a slash.
    Directories,
}

/// What `**` means beside other characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The same as `*`, as in Go; only a whole component `**` spans directories.
    Sources,
    /// moby/patternmatcher: it spans directories everywhere.
    Ignore,
}

impl Pattern {
    /// Compiles a pattern of a `COPY` or `ADD` source.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, Dialect::Sources)
    }

    pub(crate) fn compile(pattern: &str, dialect: Dialect) -> Result<Self, PatternError> {
        let tokens =
            tokens(pattern, dialect).ok_or_else(|| PatternError::Syntax(pattern.to_owned()))?;
        let shape = shape(&tokens);
        Ok(Self { tokens, shape })
    }

    /// Returns whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact(literal) => path == literal,
            Shape::Prefix(literal) => path.starts_with(literal),
            Shape::LastComponents(literal) => path
                .strip_suffix(literal.as_slice())
                .is_some_and(|before| before.is_empty() || before.ends_with(b"/")),
            Shape::AnyDepth(rest) => {
                let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
                let mut tails = slashes.map(|(slash, _)| &path[slash + 1..]);
                rest.matches(path) || tails.any(|tail| rest.matches(tail))
            }
            Shape::General { start, end } => {
                path.starts_with(start)
                    && path.ends_with(end)
                    && self
                        .run(path, b"")
                        .is_some_and(|states| states[self.tokens.len()])
            }
        }
    }

    /// Returns whether a path below the directory `path` may match.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        path.is_empty() || self.run(path, b"/").is_some()
    }

    /// Returns the states that are alive after `path` and `tail`, or `None` when there are none.
    fn run(&self, path: &[u8], tail: &[u8]) -> Option<Vec<bool>> {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        self.close(&mut states);
        let mut next = vec![false; states.len()];
        for chunk in path.utf8_chunks().chain(tail.utf8_chunks()) {
            let invalid = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
            for c in chunk.valid().chars().chain(invalid) {
                next.fill(false);
                for (position, token) in self.tokens.iter().enumerate() {
                    if states[position] {
                        step(token, c, position, &mut next);
                    }
                }
                self.close(&mut next);
                std::mem::swap(&mut states, &mut next);
                if !states.contains(&true) {
                    return None;
                }
            }
        }
        Some(states)
    }

    fn close(&self, states: &mut [bool]) {
        for (position, token) in self.tokens.iter().enumerate() {
            if !states[position] {
                continue;
            }
            match token {
                Token::Star | Token::Everything => states[position + 1] = true,
                Token::Optional => {
                    states[position + 1] = true;
                    states[position + 2] = true;
                }
                Token::Literal(_) | Token::Any | Token::Class { .. } | Token::Directories => {}
            }
        }
    }
}

fn step(token: &Token, c: char, position: usize, next: &mut [bool]) {
    match token {
        Token::Literal(literal) => next[position + 1] |= *literal == c,
        Token::Any => next[position + 1] |= c != '/',
        Token::Star => next[position] |= c != '/',
        Token::Class { negated, ranges } => {
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
            next[position + 1] |= inside != *negated;
        }
        Token::Everything => next[position] = true,
        Token::Directories => {
            next[position] = true;
            next[position + 1] |= c == '/';
        }
        Token::Optional => {}
    }
}

/// Returns whether `text` has characters that are special in patterns.
pub fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Returns whether the whole of `path` matches `pattern`.
pub fn matches(pattern: &str, path: &[u8]) -> Result<bool, PatternError> {
    Ok(Pattern::parse(pattern)?.matches(path))
}

fn tokens(pattern: &str, dialect: Dialect) -> Option<Vec<Token>> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '*' if spans_directories(&chars, at, dialect) => {
                at += 2;
                if chars.get(at) == Some(&'/') {
                    at += 1;
                }
                if at == chars.len() {
                    tokens.push(Token::Everything);
                } else {
                    tokens.extend([Token::Optional, Token::Directories]);
                }
                continue;
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '\\' => {
                at += 1;
                tokens.push(Token::Literal(*chars.get(at)?));
            }
            '[' => {
                let (class, end) = class(&chars, at + 1)?;
                if dialect == Dialect::Ignore && has_backward_range(&class) {
                    return None;
                }
                tokens.push(class);
                at = end;
            }
            literal => tokens.push(Token::Literal(literal)),
        }
        at += 1;
    }
    if dialect == Dialect::Ignore {
        suffix_of_any_name(pattern, &mut tokens);
    }
    Some(tokens)
}

/// moby/patternmatcher: `**name` also matches `other-name` when nothing else is special.
fn suffix_of_any_name(pattern: &str, tokens: &mut Vec<Token>) {
    let quirk = pattern.starts_with("**")
        && !pattern.starts_with("**/")
        && tokens.len() > 2
        && tokens[2..]
            .iter()
            .all(|token| matches!(token, Token::Literal(_)))
        && !pattern.contains('\\');
    if quirk {
        tokens.splice(..2, [Token::Everything]);
    }
}

fn spans_directories(chars: &[char], at: usize, dialect: Dialect) -> bool {
    if chars.get(at + 1) != Some(&'*') {
        return false;
    }
    match dialect {
        Dialect::Ignore => true,
        Dialect::Sources => {
            let starts = at == 0 || chars[at - 1] == '/';
            starts && matches!(chars.get(at + 2), None | Some('/'))
        }
    }
}

/// Go's `filepath.Match` takes a range such as `z-a` as one that has no characters;
/// moby/patternmatcher refuses the pattern.
fn has_backward_range(class: &Token) -> bool {
    match class {
        Token::Class { ranges, .. } => ranges.iter().any(|(low, high)| low > high),
        _ => false,
    }
}

/// Reads a class whose content starts at `at`; returns it and the place of its `]`.
fn class(chars: &[char], mut at: usize) -> Option<(Token, usize)> {
    let negated = chars.get(at) == Some(&'^');
    if negated {
        at += 1;
    }
    let mut ranges = Vec::new();
    loop {
        if chars.get(at) == Some(&']') && !ranges.is_empty() {
            return Some((Token::Class { negated, ranges }, at));
        }
        let (low, after) = class_char(chars, at)?;
        at = after;
        let mut high = low;
        if chars.get(at) == Some(&'-') {
            (high, at) = class_char(chars, at + 1)?;
        }
        ranges.push((low, high));
        if at == chars.len() {
            return None;
        }
    }
}

fn class_char(chars: &[char], at: usize) -> Option<(char, usize)> {
    match chars.get(at)? {
        '-' | ']' => None,
        '\\' => Some((*chars.get(at + 1)?, at + 2)),
        c => Some((*c, at + 1)),
    }
}

fn shape(tokens: &[Token]) -> Shape {
    if let Some(text) = literal(tokens) {
        return Shape::Exact(text);
    }
    let shape = match tokens {
        [start @ .., Token::Everything] => literal(start).map(Shape::Prefix),
        [Token::Optional, Token::Directories, end @ ..] => {
            let any_depth = || Pattern {
                tokens: end.to_vec(),
                shape: general(end),
            };
            let shape = literal(end).map(Shape::LastComponents);
            shape.or_else(|| Some(Shape::AnyDepth(Box::new(any_depth()))))
        }
        _ => None,
    };
    shape.unwrap_or_else(|| general(tokens))
}

fn general(tokens: &[Token]) -> Shape {
    let special = |token: &Token| !matches!(token, Token::Literal(_));
    let first = tokens.iter().position(special).unwrap_or_default();
    let last = tokens.iter().rposition(special).unwrap_or_default();
    Shape::General {
        start: literal(&tokens[..first]).unwrap_or_default(),
        end: literal(&tokens[last + 1..]).unwrap_or_default(),
    }
}

/// Returns the text of tokens that are nothing but text.
fn literal(tokens: &[Token]) -> Option<Vec<u8>> {
    let mut text = String::new();
    for token in tokens {
        let Token::Literal(c) = token else {
            return None;
        };
        text.push(*c);
    }
    // A literal replacement character also stands for bytes that are not UTF-8.
    (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_match_as_in_go_with_any_depth_for_a_component_of_two_stars() {
        for (pattern, path, expected) in [
            ("*.go", "a.go", true),
            ("*.go", "a/b.go", false),
            ("**/*.go", "a.go", true),
            ("**/*.go", "a/b/c.go", true),
            ("**/.env*", "a/b/.env.local", true),
            ("**/.env*", ".env", true),
            ("**/.env*", "a/x.env", false),
            ("**/a?/**/*.c", "x/ab/y/z.c", true),
            ("**/a?/**/*.c", "x/a/y/z.c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a**z", "abz", true),
            ("a**z", "a/z", false),
            ("home?.txt", "homes.txt", true),
            ("home?.txt", "home/.txt", false),
            ("arr[[]0].txt", "arr[0].txt", true),
            ("[^a-c]x", "dx", true),
            ("[^a-c]x", "bx", false),
            ("a\\*b", "a*b", true),
        ] {
            assert_eq!(
                matches(pattern, path.as_bytes()),
                Ok(expected),
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_count_as_one_character_each() {
        assert_eq!(matches("a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches("a*b", b"a\xff\xfeb"), Ok(true));
        assert_eq!(matches("a?b", b"a\xff\xfeb"), Ok(false));
    }

    #[test]
    fn a_walker_learns_where_nothing_can_match() {
        for (pattern, directory, expected) in [
            ("a/b/c", "a", true),
            ("a/b/c", "a/b", true),
            ("a/b/c", "a/x", false),
            ("a/b", "a/b", false),
            ("*/x", "anything", true),
            ("*/x", "a/b", false),
            ("**/x", "a/b/c", true),
            ("a/**", "a/b", true),
        ] {
            let pattern = Pattern::parse(pattern).expect("valid");
            assert_eq!(
                pattern.may_match_below(directory.as_bytes()),
                expected,
                "{directory}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = format!("{}b", "a*".repeat(200));
        assert_eq!(matches(&pattern, "a".repeat(2000).as_bytes()), Ok(false));
    }
}
