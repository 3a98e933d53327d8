//! The root file system of a container: one overlay over the layers of its image.
//!
//! ```text
//! $STRATA_RUN/layers/
//!   lock                     held while something below is made or removed
//!   <diffid>/                the layer's EROFS mount, shared by all containers
//!   bases/<diffid>/<chain>/  what lies on top of a stack whose topmost layer is <diffid>
//! ```
//!
//! **Directories that a layer does not carry.** A layer may hold `a/b` without holding `a`; its
//! index and its tree then have a directory `a` that is marked as implied and says nothing about
//! owner, mode and time. Overlayfs shows a merged directory with the metadata of its topmost
//! instance, so an implied one would hide the real one below. What a stack's implied directories
//! really look like is therefore worked out once per stack and boot from the indexes
//! ([`View`]), and kept as a *base*: a few empty directories with the right owner, mode, time and
//! attributes, which become the topmost lower directory of the overlay. It has no whiteouts and
//! only directories that the stack shows, so it changes nothing else, and it works alike over
//! EROFS mounts and trees. The root of the base carries the metadata of the image's root, which
//! is also what a new upper directory gets. Most stacks imply nothing but their root; then the
//! base is not part of a writable overlay.
//!
//! **Many layers.** An overlay takes 500 lower directories and may lie on another overlay once.
//! Whiteouts only work between layers of one overlay, so what goes into the lower one are the
//! bottommost layers, whose whiteouts concern nobody else: 999 layers in all.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use oci::{DiffId, Digest};
use sys::{
    FileSystem, Lower, Mount, MountAttributes, MountError, OverlayOptions, Recursion, Unmount,
    Upper, is_mount_point,
};

use crate::base::{self, BaseError};
use crate::metadata::FileError;
use crate::tree::{self, TreeError};
use crate::{Form, LayerDir, OPAQUE_XATTR};

/// What a root file system is made of.
#[derive(Debug, Clone, Copy)]
pub struct RootfsOptions<'a> {
    /// The image's layers, bottom first; perhaps none.
    pub layers: &'a [LayerDir],
    /// The directory, which exists, that gets `upper/` and `work/`; without it the file system
    /// is read-only.
    pub upper: Option<&'a Path>,
    /// Never waits for the disk; `upper` must not be mounted again.
    pub volatile: bool,
    /// Where shared layer mounts live: `$STRATA_RUN/layers`. It is made when it lacks.
    pub mounts: &'a Path,
    /// How the layers are mounted.
    pub form: Form,
}

/// Why a root file system was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A file or directory of the engine's own could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel refused a mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A layer could not be unpacked.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The metadata of directories could not be worked out or written.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The upper directory was mounted volatile before.
    #[error("`{}` was written without waiting for the disk and cannot be mounted again", path.display())]
    WasVolatile {
        /// The directory with `upper/` and `work/`.
        path: PathBuf,
    },
    /// The upper directory is on a file system that overlayfs writes nothing to.
    #[error("`{}` is on {file_system}, which cannot hold what a container writes: have the store on a local disk (ext4, xfs, btrfs)", path.display())]
    NoUpper {
        /// The directory that was to get `upper/` and `work/`.
        path: PathBuf,
        /// The name of the file system.
        file_system: &'static str,
    },
    /// A directory is no layer's.
    #[error("`{}` is no layer", path.display())]
    NotALayer {
        /// The directory.
        path: PathBuf,
    },
    /// The image has more layers than an overlay takes.
    #[error("the image has {found} layers; at most {MAX_LAYERS} can be mounted")]
    TooManyLayers {
        /// How many it has.
        found: usize,
    },
}

/// What became of a layer's shared mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// It was there and is gone.
    Done,
    /// There was none.
    Absent,
    /// A process is in it; it stays.
    Busy,
}

/// The kernel's limit (`OVL_MAX_STACK`).
const MAX_LOWER: usize = 500;

/// One place of the upper overlay is for the lower one, and one may be for the base.
const MAX_LAYERS: usize = MAX_LOWER + MAX_LOWER - 2;

/// What the kernel leaves behind by a volatile mount, and refuses to mount again.
const VOLATILE_MARK: &str = "work/work/incompat/volatile";

/// Mounts the root file system, attached nowhere.
///
/// The upper directory is made on first use and kept as it is afterwards.
pub fn mount(options: &RootfsOptions<'_>) -> Result<Mount, RootfsError> {
    if options.layers.len() > MAX_LAYERS {
        return Err(RootfsError::TooManyLayers {
            found: options.layers.len(),
        });
    }
    if let Some(directory) = options.upper {
        check_upper(directory)?;
    }
    let mut lower = Vec::with_capacity(options.layers.len() + 1);
    let base = prepare_base(options)?;
    if options.upper.is_none() || base::implies_directories(&base)? || options.layers.is_empty() {
        lower.push(base.clone());
    }
    for layer in options.layers.iter().rev() {
        let path = match options.form {
            Form::Erofs => shared_mount(options.mounts, layer)?,
            Form::Tree => {
                tree::unpack(layer)?;
                layer.tree()
            }
        };
        // A step that changes nothing gives the same layer each time. Overlayfs refuses a layer
        // that comes twice; the upper one shows and hides all that the lower one does.
        if lower.contains(&path) {
            continue;
        }
        let opaque = sys::xattr::get(&path, OPAQUE_XATTR)
            .map_err(|source| FileError::new("read attributes of", &path, source))?;
        lower.push(path);
        // Overlayfs merges roots whatever they say.
        if opaque.is_some() {
            break;
        }
    }
    if options.upper.is_none() && lower.len() == 1 {
        return read_only(&base);
    }
    let bottom = merge_bottom(&mut lower)?;
    let mut lower: Vec<_> = lower.iter().map(|path| Lower::Path(path)).collect();
    lower.extend(bottom.as_ref().map(|mount| Lower::Fd(mount.as_fd())));
    let directories = options
        .upper
        .map(|directory| prepare_upper(directory, &base))
        .transpose()?;
    let upper = directories
        .as_ref()
        .map(|(upper, work)| Upper { upper, work });
    if let Some(path) = options.upper
        && exists(&path.join(VOLATILE_MARK))?
    {
        return Err(RootfsError::WasVolatile {
            path: path.to_owned(),
        });
    }
    Ok(Mount::overlay(&OverlayOptions {
        lower: &lower,
        upper,
        volatile: options.volatile,
    })?)
}

/// Mounts one layer that is in no store, attached nowhere; read-only. Its tar and index, or its
/// unpacked tree, must stay for as long as the mount is used.
pub fn mount_alone(layer: &LayerDir, form: Form) -> Result<Mount, RootfsError> {
    match form {
        Form::Erofs => Ok(Mount::erofs(&layer.index(), &layer.tar())?),
        Form::Tree => {
            tree::unpack(layer)?;
            read_only(&layer.tree())
        }
    }
}

/// Returns the mount with an upper directory over it, which takes what is written; it is made in
/// `directory`, which exists and is not mounted again.
pub fn over(below: &Mount, directory: &Path) -> Result<Mount, RootfsError> {
    check_upper(directory)?;
    let [upper, work] = ["upper", "work"].map(|name| directory.join(name));
    create_directory(&upper)?;
    create_directory(&work)?;
    Ok(Mount::overlay(&OverlayOptions {
        lower: &[Lower::Fd(below.as_fd())],
        upper: Some(Upper {
            upper: &upper,
            work: &work,
        }),
        volatile: true,
    })?)
}

/// Removes the shared mount of a layer, and the bases that lie on it. Overlays that use the mount
/// keep it alive out of sight.
pub fn unmount_layer(mounts: &Path, diff_id: &DiffId) -> Result<Unmounted, RootfsError> {
    let hex = diff_id.digest().hex();
    let at = mounts.join(&hex);
    let bases = mounts.join(BASES).join(&hex);
    if !exists(&at)? && !exists(&bases)? {
        return Ok(Unmounted::Absent);
    }
    let lock = lock(mounts)?;
    if exists(&bases)? {
        fs::remove_dir_all(&bases).map_err(|source| error("remove", &bases, source))?;
    }
    let mut outcome = Unmounted::Absent;
    if is_mount_point(&at).map_err(|source| error("look at", &at, source))? {
        match sys::unmount(&at, Unmount::Now) {
            Ok(()) => outcome = Unmounted::Done,
            Err(busy) if busy.io_error().kind() == io::ErrorKind::ResourceBusy => {
                return Ok(Unmounted::Busy);
            }
            Err(other) => return Err(other.into()),
        }
    }
    if exists(&at)? {
        fs::remove_dir(&at).map_err(|source| error("remove", &at, source))?;
    }
    drop(lock);
    Ok(outcome)
}

/// Removes all shared mounts below `mounts`; containers that run keep theirs out of sight.
pub fn unmount_all(mounts: &Path) -> Result<(), RootfsError> {
    if !exists(mounts)? {
        return Ok(());
    }
    let lock = lock(mounts)?;
    for item in fs::read_dir(mounts).map_err(|source| error("read", mounts, source))? {
        let path = item.map_err(|source| error("read", mounts, source))?.path();
        if is_mount_point(&path).map_err(|source| error("look at", &path, source))? {
            sys::unmount(&path, Unmount::Lazy)?;
            fs::remove_dir(&path).map_err(|source| error("remove", &path, source))?;
        }
    }
    drop(lock);
    Ok(())
}

/// Returns the path of the layer's EROFS mount, and makes it on first use.
fn shared_mount(mounts: &Path, layer: &LayerDir) -> Result<PathBuf, RootfsError> {
    let at = mounts.join(name(layer)?);
    let is_mounted = || is_mount_point(&at).map_err(|source| error("look at", &at, source));
    if is_mounted()? {
        return Ok(at);
    }
    let lock = lock(mounts)?;
    if !is_mounted()? {
        let mount = Mount::erofs(&layer.index(), &layer.tar())?;
        create_directory(&at)?;
        mount.attach(&at)?;
    }
    drop(lock);
    Ok(at)
}

const BASES: &str = "bases";

/// Returns the directory that is the base of the stack, and makes it on first use.
fn prepare_base(options: &RootfsOptions<'_>) -> Result<PathBuf, RootfsError> {
    let mut names = String::with_capacity(options.layers.len() * 65);
    for layer in options.layers {
        names.push_str(&name(layer)?);
        names.push('\n');
    }
    let top = match options.layers.last() {
        Some(layer) => name(layer)?,
        None => "none".to_owned(),
    };
    let directory = options.mounts.join(BASES).join(top);
    let base = directory.join(Digest::of(names.as_bytes()).hex());
    if exists(&base)? {
        return Ok(base);
    }
    let lock = lock(options.mounts)?;
    if !exists(&base)? {
        fs::create_dir_all(&directory).map_err(|source| error("create", &directory, source))?;
        base::create(options.layers, &base)?;
    }
    drop(lock);
    Ok(base)
}

/// An overlay of a single directory that is not writable is none: an image without layers.
fn read_only(directory: &Path) -> Result<Mount, RootfsError> {
    let mount = Mount::bind(directory, Recursion::Single)?;
    let attributes = MountAttributes {
        read_only: true,
        ..MountAttributes::default()
    };
    mount.set_attributes(&attributes, Recursion::Single)?;
    Ok(mount)
}

/// Replaces the bottommost layers by one overlay of them when there are too many.
fn merge_bottom(lower: &mut Vec<PathBuf>) -> Result<Option<Mount>, RootfsError> {
    if lower.len() <= MAX_LOWER {
        return Ok(None);
    }
    let bottom = lower.split_off(MAX_LOWER - 1);
    let directories: Vec<_> = bottom.iter().map(|path| Lower::Path(path)).collect();
    // A single lower directory without an upper one is not an overlay; the split leaves two.
    let mount = Mount::overlay(&OverlayOptions {
        lower: &directories,
        upper: None,
        volatile: false,
    })?;
    Ok(Some(mount))
}

/// Fails where the kernel would refuse to mount, without saying why.
fn check_upper(directory: &Path) -> Result<(), RootfsError> {
    let file_system =
        FileSystem::of(directory).map_err(|source| error("look at", directory, source))?;
    if file_system.can_be_upper() {
        return Ok(());
    }
    Err(RootfsError::NoUpper {
        path: directory.to_owned(),
        file_system: file_system.name(),
    })
}

/// Makes `upper` and `work`. The root of a writable overlay is its upper directory, which so has
/// to look like the root of the image before anything is mounted.
fn prepare_upper(directory: &Path, base: &Path) -> Result<(PathBuf, PathBuf), RootfsError> {
    let upper = directory.join("upper");
    let work = directory.join("work");
    create_directory(&work)?;
    if !exists(&upper)? {
        let partial = directory.join("upper.partial");
        create_directory(&partial)?;
        base::copy_metadata(base, &partial)?;
        fs::rename(&partial, &upper).map_err(|source| error("create", &upper, source))?;
    }
    Ok((upper, work))
}

fn name(layer: &LayerDir) -> Result<String, RootfsError> {
    layer
        .path()
        .file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| RootfsError::NotALayer {
            path: layer.path().to_owned(),
        })
}

fn lock(mounts: &Path) -> Result<File, RootfsError> {
    // Files of all images are below, some of them set-id: not for other users.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(mounts)
        .map_err(|source| error("create", mounts, source))?;
    let path = mounts.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| error("open", &path, source))?;
    file.lock().map_err(|source| error("lock", &path, source))?;
    Ok(file)
}

fn exists(path: &Path) -> Result<bool, RootfsError> {
    path.try_exists()
        .map_err(|source| error("look at", path, source))
}

fn create_directory(path: &Path) -> Result<(), RootfsError> {
    match fs::create_dir(path) {
        Err(failure) if failure.kind() != io::ErrorKind::AlreadyExists => {
            Err(error("create", path, failure))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn error(operation: &'static str, path: &Path, source: io::Error) -> RootfsError {
    FileError::new(operation, path, source).into()
}
