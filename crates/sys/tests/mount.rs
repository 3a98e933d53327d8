//! Mounts on the running kernel. These need root.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sys::{
    Lower, Mount, MountAttributes, MountError, OverlayOptions, Propagation, Recursion, Root,
    Unmount, Upper, is_mount_point, unmount,
};

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

/// Unmounts at the end, also of a test that fails.
struct Attached(PathBuf);

impl Drop for Attached {
    fn drop(&mut self) {
        drop(unmount(&self.0, Unmount::Lazy));
    }
}

fn open(mount: &Mount, path: &str, flags: OFlags) -> Result<OwnedFd, std::io::Error> {
    let file = rustix::fs::openat(mount, path, flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(file)
}

fn read(mount: &Mount, path: &str) -> Option<String> {
    let mut text = String::new();
    let file = open(mount, path, OFlags::RDONLY).ok()?;
    fs::File::from(file).read_to_string(&mut text).unwrap();
    Some(text)
}

fn overlay(lower: &[&Path], upper: Option<(&Path, &Path)>) -> Result<Mount, MountError> {
    let lower: Vec<_> = lower.iter().map(|path| Lower::Path(path)).collect();
    Mount::overlay(&OverlayOptions {
        lower: &lower,
        upper: upper.map(|(upper, work)| Upper { upper, work }),
        volatile: upper.is_some(),
    })
}

#[test]
fn privileged_the_topmost_lower_directory_wins() {
    let scratch = Scratch::new();
    let bottom = scratch.file("bottom/a", "bottom");
    scratch.file("bottom/b", "bottom");
    let top = scratch.file("top/a", "top");
    let mount = overlay(&[top.parent().unwrap(), bottom.parent().unwrap()], None).unwrap();
    assert_eq!(read(&mount, "a").as_deref(), Some("top"));
    assert_eq!(read(&mount, "b").as_deref(), Some("bottom"));
    assert!(open(&mount, "a", OFlags::WRONLY).is_err());
}

#[test]
fn privileged_changes_go_to_the_upper_directory_in_the_user_xattr_form() {
    let scratch = Scratch::new();
    scratch.file("lower/gone", "x");
    scratch.file("lower/kept", "x");
    scratch.file("lower/again/old", "x");
    let lower = scratch.directory("lower");
    let (upper, work) = (scratch.directory("upper"), scratch.directory("work"));
    let at = scratch.directory("at");
    let mount = overlay(&[&lower], Some((&upper, &work))).unwrap();
    mount.attach(&at).unwrap();
    let attached = Attached(at.clone());
    fs::remove_file(at.join("gone")).unwrap();
    fs::write(at.join("kept"), "changed").unwrap();
    fs::remove_dir_all(at.join("again")).unwrap();
    fs::create_dir(at.join("again")).unwrap();
    drop(attached);
    drop(mount);

    let gone = fs::symlink_metadata(upper.join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(fs::read_to_string(upper.join("kept")).unwrap(), "changed");
    let opaque = sys::xattr::get(&upper.join("again"), b"user.overlay.opaque").unwrap();
    assert_eq!(opaque.as_deref(), Some(&b"y"[..]));
}

#[test]
fn privileged_detached_mounts_and_open_directories_are_lower_directories() {
    let scratch = Scratch::new();
    let lower = scratch.file("lower/a", "x");
    let bound = Mount::bind(lower.parent().unwrap(), Recursion::Single).unwrap();
    let other = scratch.file("other/b", "y");
    let directory = Root::open(other.parent().unwrap()).unwrap();
    let mount = Mount::overlay(&OverlayOptions {
        lower: &[Lower::Fd(bound.as_fd()), Lower::Fd(directory.as_fd())],
        upper: None,
        volatile: false,
    })
    .unwrap();
    assert_eq!(read(&mount, "a").as_deref(), Some("x"));
    assert_eq!(read(&mount, "b").as_deref(), Some("y"));
}

#[test]
fn privileged_paths_longer_than_a_parameter_are_mounted() {
    let scratch = Scratch::new();
    let long = format!(
        "{}/{}/{}",
        "a".repeat(200),
        "b".repeat(200),
        "c".repeat(200)
    );
    scratch.file(&format!("{long}/lower/x"), "x");
    let lower = scratch.directory(&format!("{long}/lower"));
    let upper = scratch.directory(&format!("{long}/upper"));
    let work = scratch.directory(&format!("{long}/work"));
    let mount = overlay(&[&lower], Some((&upper, &work))).unwrap();
    assert_eq!(read(&mount, "x").as_deref(), Some("x"));
}

#[test]
fn privileged_five_hundred_lower_directories_are_mounted_and_one_more_is_refused() {
    let scratch = Scratch::new();
    let directories: Vec<_> = (0..501)
        .map(|number| {
            scratch.file(&format!("{number}/own{number}"), "x");
            scratch.directory(&number.to_string())
        })
        .collect();
    let paths: Vec<_> = directories.iter().map(PathBuf::as_path).collect();
    let mount = overlay(&paths[..500], None).unwrap();
    assert!(read(&mount, "own0").is_some() && read(&mount, "own499").is_some());
    let error = overlay(&paths, None).unwrap_err();
    assert!(matches!(error, MountError::Create { .. }), "{error}");
}

#[test]
fn privileged_attributes_hold_and_can_only_be_added() {
    let scratch = Scratch::new();
    let at = scratch.directory("at");
    let mount = Mount::tmpfs(&[("size", "1m"), ("mode", "0700")]).unwrap();
    let attributes = MountAttributes {
        read_only: true,
        nosuid: true,
        nodev: true,
        noexec: true,
        noatime: true,
        propagation: Some(Propagation::Private),
    };
    mount
        .set_attributes(&attributes, Recursion::Recursive)
        .unwrap();
    mount
        .set_attributes(&MountAttributes::default(), Recursion::Single)
        .unwrap();
    mount.attach(&at).unwrap();
    let attached = Attached(at.clone());
    assert_eq!(
        fs::metadata(&at).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert!(fs::write(at.join("file"), "").is_err());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(at.to_str().unwrap()))
        .unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec,noatime "), "{line}");
    drop(attached);
}

#[test]
fn privileged_a_mount_is_attached_by_path_or_descriptor_and_removed() {
    let scratch = Scratch::new();
    let at = scratch.directory("at");
    assert!(!is_mount_point(&at).unwrap());
    assert!(!is_mount_point(&at.join("missing")).unwrap());
    let directory = Root::open(&at).unwrap();
    let mount = Mount::tmpfs(&[]).unwrap();
    mount.attach_at(directory.as_fd()).unwrap();
    let attached = Attached(at.clone());
    assert!(is_mount_point(&at).unwrap());
    let busy = open(&mount, ".", OFlags::RDONLY).unwrap();
    assert!(matches!(
        unmount(&at, Unmount::Now),
        Err(MountError::Unmount { .. })
    ));
    unmount(&at, Unmount::Lazy).unwrap();
    assert!(!is_mount_point(&at).unwrap());
    drop((busy, attached));
}

#[test]
fn privileged_a_bind_of_a_file_shows_that_file() {
    let scratch = Scratch::new();
    let source = scratch.file("source", "content");
    let at = scratch.file("at", "");
    Mount::bind(&source, Recursion::Single)
        .unwrap()
        .attach(&at)
        .unwrap();
    let attached = Attached(at.clone());
    assert_eq!(fs::read_to_string(&at).unwrap(), "content");
    let copy = Mount::open_at(
        Root::open(scratch.0.path()).unwrap().as_fd(),
        Recursion::Recursive,
    );
    assert_eq!(read(&copy.unwrap(), "at").as_deref(), Some("content"));
    drop(attached);
}

#[test]
fn privileged_errors_carry_what_the_kernel_wrote() {
    let unknown = Mount::filesystem("no-such-fs", &[]).unwrap_err();
    assert!(
        matches!(unknown, MountError::UnknownFilesystem { .. }),
        "{unknown}"
    );
    let scratch = Scratch::new();
    let index = scratch.file("index", &"not erofs".repeat(1000));
    let device = scratch.file("device", "");
    let error = Mount::erofs(&index, &device).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot mount erofs"),
        "{error}"
    );
    let error = Mount::tmpfs(&[("size", "many")]).unwrap_err();
    assert!(error.to_string().contains("size"), "{error}");
}
