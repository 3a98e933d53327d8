//! Debian packages that the tasks need.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// A program, or the path of a file, and the package that has it.
pub type Need = (&'static str, &'static str);

/// What compiling needs beside Rust.
pub const BUILD: &[Need] = &[("cc", "gcc libc6-dev")];

/// What the demo needs.
pub const DEMO: &[Need] = &[("cc", "gcc libc6-dev"), ("busybox", "busybox-static")];

/// What the tests need: real peers and a real registry.
pub const TEST: &[Need] = &[
    ("cc", "gcc libc6-dev"),
    ("busybox", "busybox-static"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("podman", "podman"),
    ("buildah", "buildah"),
    ("crun", "crun"),
    ("setpriv", "util-linux"),
    ("getfattr", "attr"),
    ("xz", "xz-utils"),
    ("bzip2", "bzip2"),
    ("zstd", "zstd"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("git", "git"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

/// Installs the packages of `needs` whose programs are missing, saying so.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(program, _)| !command::exists(program))
        .flat_map(|(_, packages)| packages.split(' '))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !command::exists("apt-get") {
        bail!(
            "missing programs; install the equivalents of: {}",
            missing.join(" ")
        );
    }
    println!("Installing Debian packages: {}", missing.join(" "));
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}

fn apt(args: &[&str]) -> Result<()> {
    let mut apt = if command::is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    };
    command::run_command(apt.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}
