//! The two forms in which a layer can be mounted.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::{fs, io};

use rustix::fs::{Mode, OFlags, openat};
use sys::{Mount, MountError};

use crate::{Entry, EntryKind, LayerDir, LayerWriter, Timestamp, WriteError};

/// How layers are handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The EROFS index, with the tar as its device: kernel 6.12 and the right to mount it.
    Erofs,
    /// The unpacked tree, made on first need.
    Tree,
}

/// Why a text names no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid layer form `{0}`: expected `erofs` or `tree`")]
pub struct FormError(String);

/// Why layers cannot be mounted as EROFS here.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// The probe's files could not be written or read.
    #[error("cannot write a layer to try")]
    Io(#[from] io::Error),
    /// The probe's layer could not be made.
    #[error("cannot make a layer to try")]
    Write(#[from] WriteError),
    /// The kernel cannot or may not mount it.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The kernel mounted it but shows something else.
    #[error("this kernel reads a mounted layer wrongly")]
    WrongContent,
}

impl Form {
    /// Mounts a tiny layer, made in `scratch`, and tells which form works here.
    ///
    /// It leaves nothing behind. The answer holds for the boot and the user: keep it.
    pub fn probe(scratch: &Path) -> Self {
        match try_erofs(scratch) {
            Ok(()) => Self::Erofs,
            Err(_) => Self::Tree,
        }
    }

    /// Parses the name of a form.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        match text {
            "erofs" => Ok(Self::Erofs),
            "tree" => Ok(Self::Tree),
            _ => Err(FormError(text.to_owned())),
        }
    }
}

/// Mounts a tiny layer, made in `scratch`, and reads it back. It leaves nothing behind.
pub fn try_erofs(scratch: &Path) -> Result<(), ErofsError> {
    let directory = scratch.join(format!("probe.{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let result = mount_probe(&directory);
    fs::remove_dir_all(&directory)?;
    result
}

const PROBE_CONTENT: &[u8] = b"a file of a layer";

fn mount_probe(directory: &Path) -> Result<(), ErofsError> {
    let layer = LayerDir::new(directory);
    let mut writer = LayerWriter::create(directory)?;
    let entry = Entry {
        path: b"file".to_vec(),
        kind: EntryKind::File {
            size: u64::try_from(PROBE_CONTENT.len()).map_err(io::Error::other)?,
        },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: std::collections::BTreeMap::new(),
    };
    writer.append(&entry, &mut &PROBE_CONTENT[..])?;
    writer.finish()?;
    let mount = Mount::erofs(&layer.index(), &layer.tar())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(mount.as_fd(), "file", flags, Mode::empty()).map_err(io::Error::from)?;
    let mut content = Vec::new();
    fs::File::from(file).read_to_end(&mut content)?;
    if content != PROBE_CONTENT {
        return Err(ErofsError::WrongContent);
    }
    Ok(())
}
