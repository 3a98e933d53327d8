//! The directories that a build reads: the build context, and those with a name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dockerfile::ignore::Patterns;

use crate::context::{Context, Digests, read_patterns};
use crate::lower::Graph;
use crate::progress::Progress;
use crate::vertex::{FilesFrom, Mount, Operation, Vertex};
use crate::{BuildContext, BuildOptions, DockerfilePlace, NamedContext, SolveError};

/// Opens the build context, of which `patterns` hide something, and what else the graph reads.
pub(crate) fn open<'a>(
    build: &BuildContext<'a>,
    options: &BuildOptions,
    (patterns, graph): (Patterns, &Graph),
    progress: &Progress<'_>,
) -> Result<BTreeMap<Option<String>, Digests<'a>>, SolveError> {
    let open = |root: Option<&Path>, patterns| {
        let context = Context::open(root, patterns)?;
        let remembered = stat_cache(build, root);
        Ok::<_, SolveError>(Digests::new(context, remembered, build.cancel))
    };
    let mut contexts = BTreeMap::new();
    contexts.insert(None, open(options.context.as_deref(), patterns)?);
    let read = read(graph);
    for (name, context) in &options.contexts {
        let NamedContext::Directory(path) = context else {
            continue;
        };
        if !read.contains(&Some(name.as_str())) {
            continue;
        }
        let step = progress.start(&format!("[context {name}] load .dockerignore"));
        let patterns = match read_patterns(&DockerfilePlace::Nowhere, Some(path)) {
            Ok(patterns) => patterns,
            Err(error) => {
                step.failed(error.to_string());
                return Err(error.into());
            }
        };
        step.done();
        contexts.insert(Some(name.clone()), open(Some(path), patterns)?);
    }
    Ok(contexts)
}

/// Returns the names of the contexts that the graph reads; `None` is the build context.
pub(crate) fn read(graph: &Graph) -> BTreeSet<Option<&str>> {
    let mut names = BTreeSet::new();
    for from in graph.vertices.iter().flat_map(shown) {
        if let FilesFrom::Context(name) = from {
            names.insert(name.as_deref());
        }
    }
    names
}

/// Returns where a vertex reads files.
fn shown(vertex: &Vertex) -> Vec<&FilesFrom> {
    match &vertex.operation {
        Operation::Files(files) => vec![&files.from],
        Operation::Run(step) => step.mounts.iter().filter_map(Mount::shown_from).collect(),
        Operation::Workdir(_) => Vec::new(),
    }
}

/// Returns where looks of a context's files are remembered: under its one real path.
fn stat_cache(build: &BuildContext<'_>, root: Option<&Path>) -> PathBuf {
    let given = root.unwrap_or(Path::new(""));
    let real = fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
    build.store.stat_cache_path(&real)
}
