//! What the benchmark works on: a base image, a bundle for the floor, two build contexts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

const SMALL: &str = "FROM bench/base AS build
WORKDIR /src
COPY a a
RUN find a -type f | wc -l > /count
ENV STAGE=build

FROM bench/base
LABEL bench=small
WORKDIR /app
COPY --from=build /count .
COPY a a
COPY z z
RUN cat z/last.txt > /seen
CMD [\"true\"]
";

const BIG: &str = "FROM bench/base
RUN mkdir /many; i=0; while [ $i -lt 20000 ]; do echo $i > /many/$i; i=$((i+1)); done
COPY files /files
RUN rm -rf /files/0* && echo done > /done
";

/// Two stages that take two seconds each and need nothing of each other.
const PARALLEL: &str = "FROM bench/base AS one
RUN sleep 2 && echo one > /one
FROM bench/base AS two
RUN sleep 2 && echo two > /two
FROM bench/base
COPY --from=one /one /
COPY --from=two /two /
";

/// How many files the largest context has.
const MANY: u64 = 100_000;

/// Makes `base.tar` (a docker archive), `bundle/`, `small/`, `big/`, `parallel/` and `many/` in
/// `directory`.
pub fn make(directory: &Path) -> Result<()> {
    make_base(directory)?;
    make_bundle(&directory.join("bundle"))?;
    make_files(&directory.join("small/a"), 2000, 300)?;
    make_files(&directory.join("small/z"), 3, 300)?;
    fs::write(directory.join("small/z/last.txt"), "first")?;
    fs::write(directory.join("small/Dockerfile"), SMALL)?;
    make_files(&directory.join("big/files"), 5000, 20_000)?;
    fs::write(directory.join("big/Dockerfile"), BIG)?;
    fs::create_dir(directory.join("parallel"))?;
    fs::write(directory.join("parallel/Dockerfile"), PARALLEL)?;
    make_many(&directory.join("many"))?;
    Ok(())
}

/// A context of small files in a thousand directories, as dependencies of a program lie.
pub fn make_many(directory: &Path) -> Result<()> {
    for number in 0..MANY {
        let parent = directory.join(format!("{:02}/{:02}", number % 25, number / 25 % 40));
        if number < 1000 {
            fs::create_dir_all(&parent)?;
        }
        fs::write(
            parent.join(format!("module-{number:06}.js")),
            number.to_string(),
        )?;
    }
    fs::write(
        directory.join("Dockerfile"),
        "FROM bench/base\nCOPY . /many\n",
    )?;
    Ok(())
}

/// Makes `base.tar` only.
pub fn make_base(directory: &Path) -> Result<()> {
    make_rootfs(&directory.join("bundle/rootfs"))?;
    make_archive(directory)
}

fn make_rootfs(rootfs: &Path) -> Result<()> {
    fs::create_dir_all(rootfs.join("bin"))?;
    for name in ["proc", "dev", "sys", "etc", "tmp"] {
        fs::create_dir(rootfs.join(name))?;
    }
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = places
        .iter()
        .find(|path| Path::new(path).is_file())
        .context("no busybox")?;
    fs::copy(busybox, rootfs.join("bin/busybox"))?;
    for applet in command::output(Command::new(busybox).arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", rootfs.join("bin").join(applet))?;
        }
    }
    Ok(())
}

/// A bundle for bare crun: the floor of `run`.
fn make_bundle(bundle: &Path) -> Result<()> {
    command::output(Command::new("crun").arg("spec").current_dir(bundle))?;
    let path = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["true"]);
    if let Some(process) = config["process"].as_object_mut() {
        process.remove("rlimits");
    }
    config["root"]["readonly"] = false.into();
    fs::write(path, serde_json::to_vec(&config)?)?;
    Ok(())
}

/// A docker archive of the root file system, which every engine loads.
fn make_archive(directory: &Path) -> Result<()> {
    let shell = r#"set -e
        tar --owner=0 --group=0 --numeric-owner --sort=name -C bundle/rootfs -cf layer.tar .
        diff=$(sha256sum layer.tar | cut -d' ' -f1)
        printf '{"architecture":"%s","os":"linux","config":{"Cmd":["sh"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created_by":"bench"}]}' "$1" "$diff" > config.json
        printf '[{"Config":"config.json","RepoTags":["bench/base:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar -cf base.tar manifest.json config.json layer.tar"#;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", shell, "archive", architecture])
        .current_dir(directory);
    command::output(&mut command).map(drop)
}

/// `count` files of about `size` bytes that compress to about a half.
fn make_files(directory: &Path, count: u64, size: usize) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut state = count;
    for number in 0..count {
        let name = directory.join(format!("{:02}", number % 50));
        fs::create_dir_all(&name)?;
        let mut file = fs::File::create(name.join(format!("{number:05}.txt")))?;
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            content.extend_from_slice(format!("{:016x} line\n", state >> 8).as_bytes());
        }
        file.write_all(&content)?;
    }
    Ok(())
}
