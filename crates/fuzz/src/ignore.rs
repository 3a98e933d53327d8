//! `.dockerignore`.

use std::collections::HashSet;

use dockerfile::ignore::{Descend, Patterns, Verdict, read};

use crate::parts::parts;

/// Longer patterns and paths are not compared with the model, which goes every way.
const MAX_MODEL: usize = 64;
/// The most patterns and paths that are compared.
const MAX_COUNT: usize = 16;

/// `data` is the text of an ignore file and paths, separated. A path is excluded exactly when the
/// model says so, which matches each pattern by itself; where a walker does not go in, nothing is
/// seen; and what `excludes` says is what a walker says.
pub fn ignore(data: &[u8]) {
    let mut parts = parts(data);
    let text = parts.next().unwrap_or_default();
    let patterns = match Patterns::parse(text) {
        Ok(patterns) => patterns,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.hint().is_empty());
            return;
        }
    };
    let rules: Vec<Rule> = read(text)
        .iter()
        .filter_map(|line| Rule::of(line))
        .collect();
    for path in parts.take(MAX_COUNT) {
        let Some(path) = clean(path) else {
            continue;
        };
        let walked = walk(&patterns, &path);
        assert_eq!(patterns.excludes(path.as_bytes()), walked, "{path:?}");
        let is_small = |rule: &Rule| rule.pattern.len() <= MAX_MODEL && rule.is_clean;
        if rules.len() <= MAX_COUNT && path.len() <= MAX_MODEL && rules.iter().all(is_small) {
            assert_eq!(walked, model(&rules, &path), "{path:?} {:?}", read(text));
        }
    }
}

/// Returns a path as a walker makes them.
fn clean(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "." | ".."))
        .collect();
    (!names.is_empty()).then(|| names.join("/"))
}

/// Returns the path of each directory above `path`, and itself.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').map(|(at, _)| at);
    slashes.chain([path.len()]).map(|end| &path[..end])
}

/// Goes down to `path` as a walker does.
fn walk(patterns: &Patterns, path: &str) -> bool {
    let mut verdict: Verdict = patterns.root();
    let mut is_skipped = false;
    for prefix in prefixes(path) {
        verdict = patterns.judge(prefix.as_bytes(), &verdict);
        assert!(
            !is_skipped || verdict.is_excluded(),
            "{prefix:?} is seen in what is skipped"
        );
        is_skipped |= patterns.descend(prefix.as_bytes(), &verdict) == Descend::Skip;
    }
    verdict.is_excluded()
}

/// A pattern of the model.
struct Rule {
    brings_back: bool,
    pattern: Vec<char>,
    is_clean: bool,
}

impl Rule {
    fn of(line: &str) -> Option<Self> {
        let (brings_back, pattern) = match line.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, line),
        };
        // What the patterns clean up once more is another pattern than the one that is read.
        let mut names = line.split('/');
        let is_clean = line.trim() == line && names.all(|name| !matches!(name, "" | "." | ".."));
        (!pattern.is_empty()).then(|| Self {
            brings_back,
            pattern: pattern.chars().collect(),
            is_clean,
        })
    }

    fn matches(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        if let ['*', '*', suffix @ ..] = self.pattern.as_slice() {
            let special = |c: &char| matches!(c, '*' | '?' | '[' | ']' | '\\');
            if suffix.first() != Some(&'/') && !suffix.iter().any(special) {
                return path.ends_with(suffix);
            }
        }
        Matching {
            pattern: &self.pattern,
            path: &path,
            failed: HashSet::new(),
        }
        .from(0, 0)
    }
}

/// Evaluates the rules from the top, for each directory on the way: a rule that a parent matches
/// matches, and one that would change nothing is not asked.
fn model(rules: &[Rule], path: &str) -> bool {
    let mut above = vec![false; rules.len()];
    let mut excluded = false;
    for prefix in prefixes(path) {
        excluded = false;
        for (rule, matched) in rules.iter().zip(&mut above) {
            *matched |= rule.brings_back == excluded && rule.matches(prefix);
            if *matched {
                excluded = !rule.brings_back;
            }
        }
    }
    excluded
}

/// A pattern against a path, every way.
struct Matching<'a> {
    pattern: &'a [char],
    path: &'a [char],
    failed: HashSet<(usize, usize)>,
}

impl Matching<'_> {
    fn from(&mut self, at: usize, place: usize) -> bool {
        if self.failed.contains(&(at, place)) {
            return false;
        }
        let found = self.go(at, place);
        if !found {
            self.failed.insert((at, place));
        }
        found
    }

    fn go(&mut self, at: usize, place: usize) -> bool {
        let here = self.path.get(place).copied();
        let rest = &self.pattern[at..];
        match rest {
            [] => here.is_none(),
            ['*', '*', ..] => {
                let next = at + 2 + usize::from(rest.get(2) == Some(&'/'));
                if next == self.pattern.len() {
                    return true;
                }
                let slashes = (place..self.path.len()).filter(|at| self.path[*at] == '/');
                let starts: Vec<usize> = slashes.map(|at| at + 1).collect();
                self.from(next, place) || starts.into_iter().any(|start| self.from(next, start))
            }
            ['*', ..] => {
                let takes = here.is_some_and(|c| c != '/');
                self.from(at + 1, place) || (takes && self.from(at, place + 1))
            }
            ['?', ..] => here.is_some_and(|c| c != '/') && self.from(at + 1, place + 1),
            ['\\', c, ..] => here == Some(*c) && self.from(at + 2, place + 1),
            ['[', ..] => {
                let Some((end, inside)) = class(rest, here) else {
                    return false;
                };
                inside && self.from(at + end, place + 1)
            }
            [c, ..] => here == Some(*c) && self.from(at + 1, place + 1),
        }
    }
}

/// Reads a class; returns its length and whether it has `c`.
fn class(pattern: &[char], c: Option<char>) -> Option<(usize, bool)> {
    let mut at = 1;
    let is_negated = pattern.get(at) == Some(&'^');
    at += usize::from(is_negated);
    let start = at;
    let mut found = false;
    let one = |at: &mut usize| {
        *at += usize::from(pattern.get(*at) == Some(&'\\'));
        let c = pattern.get(*at).copied();
        *at += 1;
        c
    };
    while at == start || pattern.get(at) != Some(&']') {
        let low = one(&mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            at += 1;
            high = one(&mut at)?;
        }
        found |= c.is_some_and(|c| (low..=high).contains(&c));
    }
    Some((at + 1, c.is_some() && found != is_negated))
}
