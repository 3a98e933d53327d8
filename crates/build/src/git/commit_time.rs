//! When a checkout was committed.

use std::path::Path;

use super::index::Index;
use super::repository::Repository;
use super::work_tree;

/// Returns the committer's time, in seconds since 1970, of the commit that `directory` stands
/// at: when nothing is staged and every tracked file in the directory is as committed. Files that
/// git does not track do not count, as for `git describe --dirty`.
pub(crate) fn commit_time(directory: &Path) -> Option<i64> {
    let repository = Repository::of(directory)?;
    let commit = repository.head_commit()?;
    let index = Index::read(&repository.index_path())?;
    let is_committed = index.tree == Some(commit.tree);
    let is_clean = is_committed && work_tree::is_unchanged(&repository, &index)?;
    is_clean.then_some(commit.time)
}
