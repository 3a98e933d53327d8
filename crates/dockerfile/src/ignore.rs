//! `.dockerignore`: which paths of a context a build does not see.
//!
//! The meaning is moby/patternmatcher's, not git's: a pattern is relative to the root of the
//! context, the last pattern that says something wins, and `!` brings back what is below an
//! excluded directory.

use crate::matching::{Dialect, Pattern, PatternError};

/// The patterns of a `.dockerignore` or of `--exclude`, in order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    pattern: Pattern,
    effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Exclude,
    Include,
}

/// What the patterns say about one path. A walker passes it on to the path's children, so that
/// no parent is matched twice.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    matched: Vec<bool>,
    excluded: bool,
}

impl Verdict {
    /// Returns whether the build does not see the path.
    pub fn is_excluded(&self) -> bool {
        self.excluded
    }
}

/// Whether a walker goes into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// Nothing below it can be seen.
    Skip,
    /// Something below it may be seen, even if it is excluded itself.
    Enter,
}

impl Patterns {
    /// Parses the text of a `.dockerignore`: a pattern on each line, `#` starts a comment.
    pub fn parse(text: &[u8]) -> Result<Self, PatternError> {
        Self::new(&read(text))
    }

    /// Compiles patterns as `--exclude` takes them.
    pub fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let mut rules = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let pattern = pattern.trim();
            if pattern.is_empty() {
                continue;
            }
            let pattern = clean(pattern);
            let (effect, pattern) = match pattern.strip_prefix('!') {
                Some("") => return Err(PatternError::LoneExclamation),
                Some(pattern) => (Effect::Include, pattern),
                None => (Effect::Exclude, pattern.as_str()),
            };
            rules.push(Rule {
                text: pattern.to_owned(),
                pattern: Pattern::compile(pattern, Dialect::Ignore)?,
                effect,
            });
        }
        Ok(Self { patterns: rules })
    }

    /// Returns whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns whether some pattern brings back what another one excludes.
    pub fn has_exceptions(&self) -> bool {
        let mut rules = self.patterns.iter();
        rules.any(|rule| rule.effect == Effect::Include)
    }

    /// Returns whether one pattern excludes whatever stands at the root.
    pub(crate) fn excludes_root(&self) -> bool {
        let everything = |rule: &Rule| {
            let text = rule.text.as_str();
            rule.effect == Effect::Exclude && matches!(text, "*" | "**" | "**/*")
        };
        self.patterns.iter().any(everything)
    }

    /// Returns whether `path`, relative to the context, is excluded, by itself or by a parent.
    pub fn excludes(&self, path: &[u8]) -> bool {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut verdict = self.root();
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
        for (slash, _) in slashes {
            verdict = self.judge(&path[..slash], &verdict);
        }
        self.judge(path, &verdict).excluded
    }

    /// Returns the verdict about the root of the context, which is always seen.
    pub fn root(&self) -> Verdict {
        Verdict {
            matched: vec![false; self.patterns.len()],
            excluded: false,
        }
    }

    /// Returns the verdict about `path`, given that about its parent directory.
    pub fn judge(&self, path: &[u8], parent: &Verdict) -> Verdict {
        let mut verdict = self.root();
        for (index, rule) in self.patterns.iter().enumerate() {
            let undecided = verdict.excluded == (rule.effect == Effect::Include);
            let by_parent = parent.matched.get(index).copied().unwrap_or(false);
            if by_parent || (undecided && rule.pattern.matches(path)) {
                verdict.matched[index] = true;
                verdict.excluded = rule.effect == Effect::Exclude;
            }
        }
        verdict
    }

    /// Returns whether anything below the directory `path` may be seen, given the verdict
    /// about it.
    pub fn descend(&self, path: &[u8], verdict: &Verdict) -> Descend {
        let brings_back =
            |rule: &Rule| rule.effect == Effect::Include && rule.pattern.may_match_below(path);
        if verdict.excluded && !self.patterns.iter().any(brings_back) {
            Descend::Skip
        } else {
            Descend::Enter
        }
    }
}

/// Returns the patterns of a `.dockerignore`, in order: cleaned, relative to the context.
pub fn read(text: &[u8]) -> Vec<String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.map(str::trim).filter(|line| !line.is_empty());
    lines.map(from_line).collect()
}

fn from_line(line: &str) -> String {
    let (mark, pattern) = match line.strip_prefix('!') {
        Some(pattern) => ("!", pattern.trim()),
        None => ("", line),
    };
    if pattern.is_empty() {
        return mark.to_owned();
    }
    let pattern = clean(pattern);
    let relative = match pattern.strip_prefix('/') {
        Some(relative) if !relative.is_empty() => relative,
        _ => &pattern,
    };
    format!("{mark}{relative}")
}

/// Go's `filepath.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if components.last().is_some_and(|last| *last != "..") => {
                components.pop();
            }
            ".." if absolute => {}
            _ => components.push(component),
        }
    }
    let joined = components.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Patterns {
        Patterns::parse(text.as_bytes()).expect("valid")
    }

    #[test]
    fn patterns_are_relative_to_the_root_and_the_last_one_wins() {
        let patterns = patterns(
            "\u{feff}# comment\n*.md\n!README.md\n/build/\nsecret*\n!secret/keep\n  **/*.o  \r\n",
        );
        for (path, expected) in [
            ("a.md", true),
            ("sub/a.md", false),
            ("README.md", false),
            ("build", true),
            ("build/x/y", true),
            ("sub/build", false),
            ("secret/x", true),
            ("secret/keep", false),
            ("secret/keep/deep", false),
            ("a/b/c.o", true),
            ("c.o", true),
            ("# comment", false),
        ] {
            assert_eq!(patterns.excludes(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn a_walker_skips_what_nothing_brings_back() {
        let patterns = patterns("node_modules\nvendor\n!vendor/*/keep\n.git");
        for (path, expected) in [
            ("src", Descend::Enter),
            ("node_modules", Descend::Skip),
            (".git", Descend::Skip),
            ("vendor", Descend::Enter),
            ("vendor/a", Descend::Enter),
            ("vendor/a/b", Descend::Skip),
        ] {
            let mut verdict = patterns.root();
            for end in path
                .match_indices('/')
                .map(|(slash, _)| slash)
                .chain([path.len()])
            {
                verdict = patterns.judge(&path.as_bytes()[..end], &verdict);
            }
            assert_eq!(
                patterns.descend(path.as_bytes(), &verdict),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        assert_eq!(
            Patterns::parse(b"!").err(),
            Some(PatternError::LoneExclamation)
        );
        assert_eq!(
            Patterns::parse(b"a[").err(),
            Some(PatternError::Syntax("a[".to_owned()))
        );
        assert_eq!(
            Patterns::parse(b"[Zip-Archive]/").err(),
            Some(PatternError::Syntax("[Zip-Archive]".to_owned()))
        );
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, expected) in [
            ("a//b/", "a/b"),
            ("./a", "a"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("a/..", "."),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), expected);
        }
    }
}
