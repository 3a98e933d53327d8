//! `COPY`, `ADD` and `WORKDIR`: files to a layer, without a mount and without privileges.
//!
//! [`select`](Selection) finds what the sources name; its digests are part of the key of the
//! step. A [`Target`] decides, as BuildKit's copier does, what each file becomes on top of the
//! parent's files, and streams it into a layer.

mod archive;
mod error;
mod owner;
mod selection;
mod source;
mod target;
mod write;

pub(crate) use archive::Archive;
pub use error::CopyError;
pub(crate) use owner::{Owner, resolve_owner};
pub(crate) use selection::Selection;
pub(crate) use source::{Content, Source, SourceFile};
pub(crate) use target::{Target, TargetOptions};
