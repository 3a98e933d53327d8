//! What the sources of `COPY` and `ADD` name.

use dockerfile::ignore::{Descend, Patterns, Verdict};
use dockerfile::matching::{self, Pattern};
use layer::EntryKind;
use oci::Digest;

use super::source::Located;
use super::{CopyError, Source, SourceFile};
use crate::context::{components, join};

/// One source: a file, or a directory with what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// The last component of its path as the instruction names it; empty for the root.
    pub(crate) name: Vec<u8>,
    /// The files with their paths below the source, parents first; the first is the source
    /// itself, with an empty path.
    pub(crate) files: Vec<(Vec<u8>, SourceFile)>,
}

impl Selection {
    /// Finds what `pattern` names; several things, or none, when it has wildcards.
    pub(crate) fn find(
        source: &Source<'_>,
        pattern: &str,
        exclude: &Patterns,
    ) -> Result<Vec<Self>, CopyError> {
        let mut selections = Vec::new();
        for path in resolve_wildcards(source, pattern)? {
            let Some(found) = source.lookup(&path)? else {
                return Err(not_found(source, pattern));
            };
            let name = components(&path).next_back().unwrap_or_default().to_vec();
            let mut files = vec![(Vec::new(), found.clone().into_file())];
            if found.is_directory() {
                let walk = Walk { source, exclude };
                if exclude.is_empty() {
                    source.prepare(&found);
                }
                walk.collect(&found, &[], &exclude.root(), &mut files)?;
            }
            selections.push(Self { name, files });
        }
        Ok(selections)
    }

    /// Finds what `pattern` names below each of what `base` names. Each is a directory with only
    /// that in it, and with what lies on the way.
    pub(crate) fn find_below(
        source: &Source<'_>,
        base: &str,
        pattern: &str,
        exclude: &Patterns,
    ) -> Result<Vec<Self>, CopyError> {
        let include = Include::parse(pattern)?;
        let is_literal = !matching::has_wildcard(base) && !matching::has_wildcard(pattern);
        let mut selections = Vec::new();
        for path in resolve_wildcards(source, base)? {
            let Some(found) = source.lookup(&path)? else {
                return Err(not_found(source, base));
            };
            let name = components(&path).next_back().unwrap_or_default().to_vec();
            let mut files = vec![(Vec::new(), found.clone().into_file())];
            if found.is_directory() {
                let walk = Walk { source, exclude };
                let start = (exclude.root(), include.start());
                walk.collect_included(&found, &[], (&include, &start), &mut files)?;
            }
            if is_literal && files.len() == 1 && !pattern.is_empty() {
                return Err(not_found(
                    source,
                    &format!("{base}/{pattern}").replace("//", "/"),
                ));
            }
            selections.push(Self { name, files });
        }
        Ok(selections)
    }

    /// A source that is one file.
    pub(crate) fn single(name: &[u8], file: SourceFile) -> Self {
        Self {
            name: name.to_vec(),
            files: vec![(Vec::new(), file)],
        }
    }

    /// Returns one line for each file: what of it decides what the layer holds.
    pub(crate) fn describe(&self, source: &Source<'_>) -> Result<Vec<String>, CopyError> {
        let files: Vec<&SourceFile> = self.files.iter().map(|(_, file)| file).collect();
        let digests = source.digests(&files)?;
        let lines = self.files.iter().zip(digests);
        Ok(lines
            .map(|((path, file), digest)| line(&join(&self.name, path), file, digest.as_ref()))
            .collect())
    }
}

fn line(path: &[u8], file: &SourceFile, digest: Option<&Digest>) -> String {
    let (letter, content) = match &file.kind {
        EntryKind::File { .. } => ('f', digest.map(Digest::hex).unwrap_or_default()),
        EntryKind::Directory => ('d', String::new()),
        EntryKind::Symlink { target } | EntryKind::Hardlink { target } => ('l', escaped(target)),
        EntryKind::CharDevice { major, minor } => ('c', format!("{major}:{minor}")),
        EntryKind::BlockDevice { major, minor } => ('b', format!("{major}:{minor}")),
        EntryKind::Fifo => ('p', String::new()),
    };
    let (mode, uid, gid) = (file.mode, file.uid, file.gid);
    let mut line = format!("{letter} {mode:04o} {uid}:{gid} {content} ");
    escape(path, &mut line);
    for (name, value) in &file.xattrs {
        line.push(' ');
        escape(name, &mut line);
        line.push('=');
        escape(value, &mut line);
    }
    line
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    escape(bytes, &mut text);
    text
}

/// Appends bytes as text that no other bytes give: what is not printable ASCII, a space, a
/// backslash or `=` is written as `\xx`.
fn escape(bytes: &[u8], text: &mut String) {
    text.reserve(bytes.len());
    for byte in bytes {
        match byte {
            b' ' | b'\\' | b'=' => text.push_str(&format!("\\{byte:02x}")),
            0x21..=0x7e => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\{byte:02x}")),
        }
    }
}

fn not_found(source: &Source<'_>, pattern: &str) -> CopyError {
    CopyError::NotFound {
        from: source.label(),
        path: pattern.to_owned(),
    }
}

/// A walk through one source.
struct Walk<'a> {
    source: &'a Source<'a>,
    exclude: &'a Patterns,
}

impl Walk<'_> {
    /// Appends what is in `directory`, which lies at `below`, without what is excluded.
    fn collect(
        &self,
        directory: &Located,
        below: &[u8],
        verdict: &Verdict,
        files: &mut Vec<(Vec<u8>, SourceFile)>,
    ) -> Result<(), CopyError> {
        for (name, found) in self.source.read_dir(directory)? {
            let path = join(below, &name);
            let verdict = self.exclude.judge(&path, verdict);
            let is_directory = found.is_directory();
            let below_is_hidden = self.exclude.descend(&path, &verdict) == Descend::Skip;
            if verdict.is_excluded() && (!is_directory || below_is_hidden) {
                continue;
            }
            let before = files.len();
            files.push((path.clone(), found.clone().into_file()));
            if is_directory {
                self.collect(&found, &path, &verdict, files)?;
            }
            if verdict.is_excluded() && files.len() == before + 1 {
                files.pop();
            }
        }
        Ok(())
    }

    /// Appends what is in `directory`, which lies at `below`, as far as `include` names it, with
    /// the directories on the way.
    fn collect_included(
        &self,
        directory: &Located,
        below: &[u8],
        (include, (verdict, progress)): (&Include, &(Verdict, Progress)),
        files: &mut Vec<(Vec<u8>, SourceFile)>,
    ) -> Result<(), CopyError> {
        for (name, found) in self.source.read_dir(directory)? {
            let progress = include.follow(progress, &name);
            if progress.is_empty() {
                continue;
            }
            let path = join(below, &name);
            let verdict = self.exclude.judge(&path, verdict);
            let is_wanted = include.is_match(&progress) && !verdict.is_excluded();
            if !is_wanted && !found.is_directory() {
                continue;
            }
            let before = files.len();
            files.push((path.clone(), found.clone().into_file()));
            if found.is_directory() {
                let here = (verdict, progress);
                self.collect_included(&found, &path, (include, &here), files)?;
            }
            if !is_wanted && files.len() == before + 1 {
                files.pop();
            }
        }
        Ok(())
    }
}

/// A pattern that is matched name by name on the way down. `**` is any number of directories.
struct Include(Vec<Part>);

enum Part {
    /// `**`.
    Any,
    One(Pattern),
}

/// Which parts may come next; the number of all is the end.
type Progress = Vec<usize>;

impl Include {
    fn parse(pattern: &str) -> Result<Self, CopyError> {
        let parts = pattern.split('/').filter(|part| !part.is_empty());
        let part = |part| match part {
            "**" => Ok(Part::Any),
            _ => Pattern::parse(part).map(Part::One),
        };
        Ok(Self(parts.map(part).collect::<Result<_, _>>()?))
    }

    fn start(&self) -> Progress {
        let mut progress = Vec::new();
        self.reach(0, &mut progress);
        progress
    }

    /// Adds a part that may come next, and those behind it when it may be nothing.
    fn reach(&self, part: usize, progress: &mut Progress) {
        if !progress.contains(&part) {
            progress.push(part);
            if matches!(self.0.get(part), Some(Part::Any)) {
                self.reach(part + 1, progress);
            }
        }
    }

    /// Returns where `name` leads. What is below a match matches too.
    fn follow(&self, progress: &Progress, name: &[u8]) -> Progress {
        let mut next = Vec::new();
        for &part in progress {
            match self.0.get(part) {
                None => self.reach(part, &mut next),
                Some(Part::Any) => self.reach(part, &mut next),
                Some(Part::One(pattern)) if pattern.matches(name) => {
                    self.reach(part + 1, &mut next);
                }
                Some(Part::One(_)) => {}
            }
        }
        next
    }

    fn is_match(&self, progress: &Progress) -> bool {
        progress.contains(&self.0.len())
    }
}

/// Returns the paths that a pattern names. Wildcards match within one component, and symbolic
/// links behind the first wildcard are not followed.
fn resolve_wildcards(source: &Source<'_>, pattern: &str) -> Result<Vec<Vec<u8>>, CopyError> {
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let first = parts.iter().position(|part| matching::has_wildcard(part));
    let Some(first) = first else {
        let literal: Vec<String> = parts.iter().map(|part| unescape(part)).collect();
        return Ok(vec![literal.join("/").into_bytes()]);
    };
    let literal: Vec<String> = parts[..first].iter().map(|part| unescape(part)).collect();
    let base = literal.join("/").into_bytes();
    let Some(directory) = source.lookup(&base)? else {
        return Err(not_found(source, pattern));
    };
    let mut level = vec![(base, directory)];
    for part in &parts[first..] {
        let pattern = Pattern::parse(part)?;
        let mut next = Vec::new();
        for (path, directory) in level {
            if !directory.is_directory() {
                continue;
            }
            for (name, found) in source.read_dir(&directory)? {
                if pattern.matches(&name) {
                    next.push((join(&path, &name), found));
                }
            }
        }
        level = next;
    }
    let mut paths: Vec<Vec<u8>> = level.into_iter().map(|(path, _)| path).collect();
    paths.sort_unstable();
    Ok(paths)
}

/// Returns a component without the backslashes that take special meaning away.
fn unescape(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_texts_are_distinct() {
        for (bytes, expected) in [
            (&b"a/b.c"[..], "a/b.c"),
            (b"a b", "a\\20b"),
            (b"a\\20b", "a\\5c20b"),
            (b"\xff\n", "\\ff\\0a"),
        ] {
            let mut text = String::new();
            escape(bytes, &mut text);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn backslashes_take_special_meaning_away() {
        assert_eq!(unescape("a\\*b\\\\"), "a*b\\");
    }
}
