//! When the commit that a directory stands at was made.
//!
//! Everything is read from the files of the repository, and no program is run: `git status` in
//! a directory of someone else's would execute what its configuration names. What is not
//! understood (SHA-256 repositories, split and sparse indexes, reftables) counts as no
//! repository at all: the time then comes from the files.

mod commit_time;
mod index;
mod object;
mod pack;
mod repository;
mod work_tree;

pub(crate) use commit_time::commit_time;

#[cfg(test)]
mod tests;
