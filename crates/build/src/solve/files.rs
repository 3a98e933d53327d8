//! `COPY`, `ADD` and `WORKDIR` as steps: their inputs, and their layers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockerfile::ignore::Patterns;
use layer::{EntryKind, LayerWriter, Timestamp, View};
use oci::{DiffId, Digest, Hasher};

use super::Environment;
use crate::context::{Context, Digests};
use crate::copy::{
    Archive, Content, CopyError, Owner, Selection, Source, SourceFile, Target, TargetOptions,
    resolve_owner,
};
use crate::event::LogStream;
use crate::progress::Step;
use crate::vertex::{Archives, Files, FilesFrom, Item, Link, Workdir};
use crate::{BaseImageError, GitSource, SolveError};

/// The mode of a file that was downloaded.
const DOWNLOADED_MODE: u32 = 0o600;
/// The mode of a file that is written in the Dockerfile.
const INLINE_MODE: u32 = 0o644;
/// The name of a download whose URL has none.
const UNNAMED: &str = "__unnamed__";

/// What a step copies.
pub(crate) struct Inputs {
    place: Place,
    items: Vec<Input>,
    /// A line for each file: the ingredients of the key.
    pub(super) lines: Vec<String>,
}

/// Where a step reads.
enum Place {
    Context(Option<String>),
    Layers(View),
}

enum Input {
    /// Paths, or a file that is here.
    Local(Vec<Selection>),
    /// A file that was downloaded.
    Remote(Box<Selection>),
    /// A file that is downloaded when it is needed: its digest is known.
    Later { url: String, checksum: Digest },
    /// A commit that is fetched when it is needed.
    Git { source: GitSource, commit: String },
}

impl Inputs {
    /// Finds what a step copies and reads what the stat cache does not know. `source` are the
    /// layers that `--from` names.
    pub(crate) fn find(
        environment: &Environment<'_>,
        files: &Files,
        source: &[DiffId],
    ) -> Result<Self, SolveError> {
        let place = match &files.from {
            FilesFrom::Context(name) => Place::Context(name.clone()),
            FilesFrom::Origin(_) => Place::Layers(environment.view(source)?),
        };
        let mut inputs = Self {
            place,
            items: Vec::new(),
            lines: Vec::new(),
        };
        let exclude = Patterns::new(&files.exclude).map_err(CopyError::from)?;
        for item in &files.items {
            let input = match item {
                Item::Path(_) | Item::Below { .. } => {
                    let source = inputs.source(environment);
                    Input::Local(select(&source, item, &exclude)?)
                }
                Item::Inline { name, content } => {
                    let file = inline(content);
                    Input::Local(vec![Selection::single(name.as_bytes(), file)])
                }
                Item::Git(source) => {
                    let commit = environment.build.base_images.git_commit(source);
                    Input::Git {
                        commit: commit.map_err(|error| git_fault(source, error))?,
                        source: (**source).clone(),
                    }
                }
                Item::Url(url) => match files.checksum {
                    Some(checksum) => Input::Later {
                        url: url.clone(),
                        checksum,
                    },
                    None => Input::Remote(Box::new(download(environment, url)?.0)),
                },
            };
            let lines = inputs.describe(environment, &input)?;
            inputs.lines.extend(lines);
            inputs.items.push(input);
        }
        Ok(inputs)
    }

    fn source<'b>(&'b self, environment: &'b Environment<'_>) -> Source<'b> {
        match &self.place {
            Place::Layers(view) => Source::Layers(view),
            Place::Context(name) => Source::Context(environment.context(name)),
        }
    }

    fn describe(
        &self,
        environment: &Environment<'_>,
        input: &Input,
    ) -> Result<Vec<String>, SolveError> {
        let source = self.source(environment);
        let mut lines = Vec::new();
        match input {
            Input::Local(selections) => {
                for selection in selections {
                    lines.extend(selection.describe(&source)?);
                }
            }
            Input::Remote(selection) => lines = selection.describe(&source)?,
            Input::Later { url, checksum } => lines.push(format!("u {checksum} {url}")),
            Input::Git { source, commit } => lines.push(describe_commit(source, commit)),
        }
        Ok(lines)
    }

    /// Returns the name of what is copied when it is one thing and no directory.
    pub(crate) fn single_file(&self) -> Option<String> {
        let [Input::Local(selections)] = self.items.as_slice() else {
            return None;
        };
        let [selection] = selections.as_slice() else {
            return None;
        };
        let is_directory = |(_, file): &(Vec<u8>, SourceFile)| file.kind == EntryKind::Directory;
        match selection.files.first().is_some_and(is_directory) {
            true => None,
            false => Some(String::from_utf8_lossy(&selection.name).into_owned()),
        }
    }

    /// Writes the layer of a step on top of `parent`; `step` is told of what is odd.
    pub(crate) fn write(
        self,
        environment: &Environment<'_>,
        files: &Files,
        parent: &[DiffId],
        (step, writer): (Option<&Step<'_>>, &mut LayerWriter),
    ) -> Result<(), SolveError> {
        let layers = match files.link {
            Link::Parent => parent,
            Link::Apart => &[],
        };
        let below = environment.view(layers)?;
        let owner = match &files.owner {
            None => None,
            Some(owner) => Some(find_owner((&below, layers), owner, step)?),
        };
        let options = TargetOptions {
            owner,
            mode: files.mode.as_ref(),
            epoch: environment.epoch()?,
        };
        let mut target = Target::new(&below, options);
        // They are read when the layer is written.
        let mut check_outs = Vec::new();
        for input in &self.items {
            match input {
                Input::Local(selections) => {
                    let unpack = files.archives != Archives::Keep;
                    for selection in selections {
                        place(environment, &mut target, selection, files, unpack)?;
                    }
                }
                Input::Remote(selection) => {
                    let unpack = files.archives == Archives::UnpackAll;
                    place(environment, &mut target, selection, files, unpack)?;
                }
                Input::Git { source, commit } => {
                    let images = environment.build.base_images;
                    let fetched = images.git_check_out(source, commit);
                    let fetched = fetched.map_err(|error| git_fault(source, error))?;
                    for selection in all_of(environment, (*fetched).as_ref(), files)? {
                        target.copy(&selection, &files.destination)?;
                    }
                    check_outs.push(fetched);
                }
                Input::Later { url, checksum } => {
                    let (selection, found) = download(environment, url)?;
                    if found != *checksum {
                        let expected = *checksum;
                        return Err(CopyError::Checksum { found, expected }.into());
                    }
                    let unpack = files.archives == Archives::UnpackAll;
                    place(environment, &mut target, &selection, files, unpack)?;
                }
            }
        }
        let is_canceled = || environment.is_canceled();
        Ok(target.write(&self.source(environment), writer, &is_canceled)?)
    }
}

/// How many files are read before a look at whether the build has ended.
const READ_AHEAD: usize = 256;

/// Reads what a step will copy from the context, while others run. A failure is the step's to
/// tell, when its turn comes.
pub(super) fn read_ahead(environment: &Environment<'_>, files: &Files) -> Result<(), SolveError> {
    let FilesFrom::Context(name) = &files.from else {
        return Ok(());
    };
    let source = Source::Context(environment.context(name));
    let exclude = Patterns::new(&files.exclude).map_err(CopyError::from)?;
    for item in &files.items {
        for selection in select(&source, item, &exclude)? {
            for files in selection.files.chunks(READ_AHEAD) {
                if environment.is_canceled() {
                    return Err(SolveError::Canceled);
                }
                let files: Vec<&SourceFile> = files.iter().map(|(_, file)| file).collect();
                source.digests(&files)?;
            }
        }
    }
    Ok(())
}

/// Finds what an item names in a source; a URL or a file of the Dockerfile names nothing there.
fn select(
    source: &Source<'_>,
    item: &Item,
    exclude: &Patterns,
) -> Result<Vec<Selection>, CopyError> {
    match item {
        Item::Path(path) => Selection::find(source, path, exclude),
        Item::Below { base, pattern } => Selection::find_below(source, base, pattern, exclude),
        Item::Url(_) | Item::Git(_) | Item::Inline { .. } => Ok(Vec::new()),
    }
}

fn git_fault(source: &GitSource, error: BaseImageError) -> CopyError {
    CopyError::Git {
        source_name: source.to_string(),
        source: error,
    }
}

/// Returns the ingredient of the key. The commit tells what its files are; only what `.git` has
/// depends on where it came from.
fn describe_commit(source: &GitSource, commit: &str) -> String {
    let submodules = match source.submodules {
        true => "submodules",
        false => "alone",
    };
    let remote = match source.keep_git_dir {
        Some(true) => source.remote.as_str(),
        Some(false) | None => "",
    };
    format!(
        "g {commit} {submodules} {:?} {remote:?}",
        source.subdirectory
    )
}

/// Selects all that is in a directory, to be read after this.
fn all_of(
    environment: &Environment<'_>,
    directory: &Path,
    files: &Files,
) -> Result<Vec<Selection>, SolveError> {
    let exclude = Patterns::new(&files.exclude).map_err(CopyError::from)?;
    let context = Context::open(Some(directory), Patterns::default())?;
    // What is here once need not be remembered.
    let digests = Digests::new(context, PathBuf::new(), environment.build.cancel);
    let mut selections = Selection::find(&Source::Context(&digests), "/", &exclude)?;
    for (_, file) in selections.iter_mut().flat_map(|it| &mut it.files) {
        if let Content::Context(listed) = &file.content {
            file.content = Content::Listed(digests.context().clone(), listed.clone());
        }
    }
    Ok(selections)
}

fn place(
    environment: &Environment<'_>,
    target: &mut Target<'_>,
    selection: &Selection,
    files: &Files,
    unpack: bool,
) -> Result<(), SolveError> {
    let archive = match unpack {
        true => open_archive(environment, selection)?,
        false => None,
    };
    let scratch = environment.build.store.ingest_dir();
    match archive {
        Some(archive) => target.unpack(&archive, &files.destination.path, &scratch)?,
        None => target.copy(selection, &files.destination)?,
    }
    Ok(())
}

fn open_archive(
    environment: &Environment<'_>,
    selection: &Selection,
) -> Result<Option<Archive>, SolveError> {
    let [(_, file)] = selection.files.as_slice() else {
        return Ok(None);
    };
    let opened = match &file.content {
        Content::Context(listed) => environment.context(&None).context().open_file(listed)?,
        Content::Spooled(file, 0) => file.try_clone().map_err(CopyError::Scratch)?,
        Content::Spooled(..)
        | Content::None
        | Content::Listed(..)
        | Content::Layer(_)
        | Content::Inline(_) => {
            return Ok(None);
        }
    };
    let name = String::from_utf8_lossy(&selection.name);
    let scratch = environment.build.store.ingest_dir();
    Ok(Archive::open(opened, &name, &scratch)?)
}

/// Writes the layer of a `WORKDIR` on top of `parent`.
pub(super) fn write_workdir(
    environment: &Environment<'_>,
    step: &Workdir,
    parent: &[DiffId],
    (shown, writer): (&Step<'_>, &mut LayerWriter),
) -> Result<(), SolveError> {
    let below = environment.view(parent)?;
    let owner = match step.user.as_str() {
        "" => None,
        user => Some(find_owner((&below, parent), user, Some(shown))?),
    };
    let options = TargetOptions {
        owner,
        mode: None,
        epoch: environment.epoch()?,
    };
    let mut target = Target::new(&below, options);
    target.working_directory(&step.path)?;
    let source = Source::Layers(&below);
    let is_canceled = || environment.is_canceled();
    Ok(target.write(&source, writer, &is_canceled)?)
}

/// Resolves a user by the files of an image, and tells whom files belong to when there is no such name.
fn find_owner(
    (image, layers): (&View, &[DiffId]),
    owner: &str,
    step: Option<&Step<'_>>,
) -> Result<(u32, u32), SolveError> {
    let Owner { ids, unknown } = resolve_owner(image, owner)?;
    for name in unknown {
        // Where there are no files there are no names, for BuildKit as well.
        if layers.is_empty() {
            return Err(CopyError::Owner(name).into());
        }
        let line = format!("warning: {name}: files belong to {}:{}", ids.0, ids.1);
        if let Some(step) = step {
            step.log(LogStream::Stderr, line.as_bytes());
        }
    }
    Ok(ids)
}

/// A file without a time of its own: it gets the epoch, as all later times do.
fn inline(content: &str) -> SourceFile {
    let bytes: Arc<[u8]> = content.as_bytes().into();
    SourceFile {
        kind: EntryKind::File {
            size: u64::try_from(bytes.len()).expect("invariant: a length fits in 64 bits"),
        },
        mode: INLINE_MODE,
        uid: 0,
        gid: 0,
        mtime: Timestamp {
            seconds: i64::MAX,
            nanoseconds: 0,
        },
        xattrs: std::collections::BTreeMap::new(),
        group: None,
        content: Content::Inline(bytes),
    }
}

/// Downloads a file, and returns its digest.
fn download(environment: &Environment<'_>, url: &str) -> Result<(Selection, Digest), SolveError> {
    let fault = |source| CopyError::Download {
        url: url.to_owned(),
        source,
    };
    let download = environment.build.base_images.download(url).map_err(fault)?;
    let scratch = environment.build.store.ingest_dir();
    let mut spool = tempfile::tempfile_in(scratch).map_err(CopyError::Scratch)?;
    let mut content = download.content;
    let (size, digest) = spool_into(&mut spool, &mut *content).map_err(|e| fault(e.into()))?;
    let file = SourceFile {
        kind: EntryKind::File { size },
        mode: DOWNLOADED_MODE,
        uid: 0,
        gid: 0,
        mtime: Timestamp {
            seconds: download.last_modified.unwrap_or(0),
            nanoseconds: 0,
        },
        xattrs: std::collections::BTreeMap::new(),
        group: None,
        content: Content::Spooled(Arc::new(spool), 0),
    };
    Ok((Selection::single(file_name(url).as_bytes(), file), digest))
}

fn spool_into(spool: &mut File, content: &mut dyn Read) -> io::Result<(u64, Digest)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let length = match content.read(&mut buffer) {
            Ok(0) => return Ok((size, hasher.finish())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..length]);
        spool.write_all(&buffer[..length])?;
        size += u64::try_from(length).unwrap_or_default();
    }
}

/// Returns the last component of a URL's path.
fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let name = rest
        .split_once('/')
        .and_then(|(_, path)| path.trim_end_matches('/').rsplit('/').next());
    match name {
        Some(name) if !name.is_empty() => decode(name),
        _ => UNNAMED.to_owned(),
    }
}

/// Decodes `%xx`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match (first, code) {
            (b'%', Some(code)) if code != b'/' && code != 0 => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(name) if name != "." && name != ".." => name,
        _ => UNNAMED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_are_named_after_their_url() {
        for (url, expected) in [
            ("http://h/a/b.tar?x=1", "b.tar"),
            ("https://h/a%20b", "a b"),
            ("https://h/a%2fb", "a%2fb"),
            ("http://h/", UNNAMED),
            ("http://h", UNNAMED),
            ("http://h/..", UNNAMED),
        ] {
            assert_eq!(file_name(url), expected, "{url}");
        }
    }
}
