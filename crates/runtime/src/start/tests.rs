//! Containers on hosts with other control groups than this one, and without privileges.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::{Exit, Limits, Process, Security};

fn busybox_root(applets: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    // In a process of its own: a child that another thread makes meanwhile would hold a copy of
    // the descriptor that writes, and an executable that is being written is busy.
    let status = std::process::Command::new("cp")
        .arg("/bin/busybox")
        .arg(&bin)
        .status();
    assert!(status.unwrap().success());
    for applet in applets {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    directory
}

fn spec(id: &str, root: &Path, command: &str) -> Spec {
    Spec {
        id: format!("{id}-{}", std::process::id()),
        rootfs: Mount::bind(root, Recursion::Single).unwrap(),
        rootfs_access: Access::ReadWrite,
        process: Process {
            args: ["sh", "-c", command].map(str::to_owned).to_vec(),
            ..Process::default()
        },
        hostname: "box".to_owned(),
        mounts: Vec::new(),
        network: Network::None,
        security: Security::default(),
        limits: Limits::default(),
        stdio: Stdio::Inherit,
    }
}

fn exit_code(spec: Spec, layout: &Layout) -> Exit {
    start_on(spec, layout).unwrap().wait().unwrap()
}

/// Allows the devices of every container, and nobody the messages of the kernel.
const DEVICES: &str = "mknod /tmp-kmsg c 1 11 || exit 1; head -c 1 /tmp-kmsg && exit 2; \
    head -c 1 /dev/zero > /dev/null || exit 3; mknod /dev/zero2 c 1 5 && head -c 1 /dev/zero2 \
    || exit 4";

#[test]
fn privileged_devices_are_restricted_on_a_v2_host() {
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount::cgroup2().unwrap();
    mount.attach(directory.path()).unwrap();
    let root = busybox_root(&["sh", "mknod", "head", "grep", "test"]);
    let layout = Layout::Unified(directory.path().to_owned());
    let result = std::panic::catch_unwind(|| {
        let command = format!(
            "{DEVICES}; test -e /sys/fs/cgroup/cgroup.procs && \
            grep -q ^0::/$ /proc/self/cgroup || exit 5; echo 0 > /sys/fs/cgroup/cgroup.procs && \
            exit 6; exit 0"
        );
        let exit = exit_code(spec("v2", root.path(), &command), &layout);
        assert_eq!(exit, Exit::Code(0));
        let group = directory
            .path()
            .join(format!("strata-v2-{}", std::process::id()));
        assert!(!group.exists());
    });
    sys::unmount(directory.path(), sys::Unmount::Lazy).unwrap();
    result.unwrap();
}

#[test]
fn privileged_devices_are_restricted_on_this_host() {
    let root = busybox_root(&["sh", "mknod", "head"]);
    let command = format!("{DEVICES}; exit 0");
    let exit = exit_code(spec("host", root.path(), &command), &Layout::detect());
    assert_eq!(exit, Exit::Code(0));
}

#[test]
fn privileged_without_control_groups_no_device_can_be_made_or_opened() {
    let root = busybox_root(&["sh", "mknod", "head"]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("zero"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 5),
    )
    .unwrap();
    let command = "head -c 1 /zero && exit 1; mknod /dev/x c 1 5 && exit 2; \
        head -c 1 /dev/zero || exit 3; exit 0";
    let exit = exit_code(spec("none", root.path(), command), &Layout::Absent);
    assert_eq!(exit, Exit::Code(0));
}

#[test]
fn privileged_a_process_without_capabilities_is_told_so() {
    let root = busybox_root(&["sh"]);
    let spec = spec("plain", root.path(), "true");
    // Capabilities belong to a thread, so only this one loses them.
    let error = std::thread::spawn(|| {
        sys::drop_capabilities(&[]).unwrap();
        start(spec).unwrap_err()
    })
    .join()
    .unwrap();
    assert!(matches!(error, StartError::NotPermitted(_)), "{error}");
    assert_eq!(error.exit_code(), 125);
}
