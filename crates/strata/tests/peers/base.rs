//! The root file system of test images: busybox from the machine, and files with corners.

use std::fs;

use testkit::tarball::{Member, Tarball};

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "ls", "true", "id", "mkdir", "chown", "chmod", "ln", "rm", "test", "cp",
    "touch", "mv", "stat",
];

const TIME: i64 = 1_700_000_000;

/// Returns the tar.
pub(crate) fn tar() -> Vec<u8> {
    tar_of(&fs::read("/bin/busybox").expect("Debian's busybox-static"))
}

/// Returns the tar with something else as busybox.
pub(crate) fn tar_of(busybox: &[u8]) -> Vec<u8> {
    let mut tar = Tarball::new();
    let mut push = |member: Member| {
        tar.push(&Member {
            mtime: TIME,
            ..member
        });
    };
    for name in [
        "bin", "dev", "etc", "proc", "root", "run", "srv", "sys", "usr", "usr/bin",
    ] {
        push(Member::directory(name));
    }
    push(mode(Member::directory("tmp"), 0o1777));
    push(mode(Member::file("bin/busybox", busybox), 0o755));
    for applet in APPLETS {
        push(Member::symlink(format!("bin/{applet}"), "busybox"));
    }
    push(mode(
        Member::hardlink("usr/bin/busybox", "bin/busybox"),
        0o755,
    ));
    let users = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n";
    push(Member::file("etc/passwd", users));
    push(Member::file(
        "etc/group",
        b"root:x:0:\nweb:x:33:\nlogs:x:44:web\n",
    ));
    push(Member::file(
        "etc/os-release",
        b"ID=peers\nNAME=\"Peers\"\n",
    ));
    // Where every engine mounts its own: buildah leaves the mount points that it had to make.
    for name in ["etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        push(Member::file(name, b""));
    }
    let owned = Member::file("srv/owned", b"of web\n");
    push(Member {
        uid: 33,
        gid: 44,
        ..mode(owned, 0o4750)
    });
    // cap_net_bind_service, permitted and effective, as `setcap` writes it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    push(Member::file("srv/capable", b"#!/bin/sh\n").xattr("security.capability", capability));
    push(Member::file("srv/told", b"").xattr("user.note", b"kept"));
    push(Member::fifo("srv/pipe"));
    push(Member::symlink("srv/dangling", "../nowhere"));
    tar.finish()
}

fn mode(member: Member, mode: u32) -> Member {
    Member { mode, ..member }
}
