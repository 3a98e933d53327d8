//! The context of the project's own cases: files of every kind.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use testkit::tarball::{Member, Tarball};

use crate::command;

/// Files, their modes and contents.
const FILES: [(&str, u32, &str); 22] = [
    ("plain.txt", 0o644, "plain\n"),
    ("exec.sh", 0o755, "#!/bin/sh\necho ran\n"),
    ("setuid", 0o4755, "setuid\n"),
    ("private", 0o600, "private\n"),
    ("closed", 0o000, "closed\n"),
    ("two words.txt", 0o644, "two words\n"),
    ("star*.txt", 0o644, "star\n"),
    ("[b].txt", 0o644, "brackets\n"),
    ("é.txt", 0o644, "accent\n"),
    ("empty.txt", 0o644, ""),
    ("nested/x.go", 0o644, "x\n"),
    ("nested/x.md", 0o644, "x\n"),
    ("nested/deep/y.go", 0o644, "y\n"),
    ("nested/deep/z.md", 0o640, "z\n"),
    ("nested/deep/a/b/c.go", 0o644, "c\n"),
    ("nested/.hidden", 0o644, "hidden\n"),
    ("other/x.go", 0o644, "another\n"),
    ("modes/closed/file", 0o644, "in closed\n"),
    ("modes/group/file", 0o664, "in group\n"),
    ("modes/sticky/file", 0o644, "in sticky\n"),
    ("files/a", 0o644, "a\n"),
    ("text.tar.gz", 0o644, "not an archive\n"),
];

/// Directories and their modes.
const DIRECTORIES: [(&str, u32); 5] = [
    ("hollow", 0o755),
    ("hollow/more/still", 0o750),
    ("modes/closed", 0o700),
    ("modes/group", 0o2775),
    ("modes/sticky", 0o1777),
];

/// Symbolic links and their targets.
const LINKS: [(&str, &str); 8] = [
    ("link", "plain.txt"),
    ("dangling", "nowhere"),
    ("absolute", "/etc/passwd"),
    ("linked", "nested"),
    ("outside", "../../outside"),
    ("nested/up", "../plain.txt"),
    ("nested/around", "deep/../x.go"),
    ("links/dir", "../nested/deep"),
];

/// `cap_net_raw` permitted and effective, as the kernel keeps it.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Makes it in the new directory `path`.
pub fn make(path: &Path) -> Result<()> {
    for (name, mode) in DIRECTORIES {
        let directory = path.join(name);
        fs::create_dir_all(&directory)?;
        fs::set_permissions(directory, Permissions::from_mode(mode))?;
    }
    for (name, mode, content) in FILES {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap_or(path))?;
        fs::write(&file, content)?;
        fs::set_permissions(file, Permissions::from_mode(mode))?;
    }
    for (name, target) in LINKS {
        let link = path.join(name);
        fs::create_dir_all(link.parent().unwrap_or(path))?;
        symlink(target, link)?;
    }
    fs::create_dir(path.join("hard"))?;
    fs::write(path.join("hard/one"), "hard\n")?;
    fs::hard_link(path.join("hard/one"), path.join("hard/two"))?;
    fs::hard_link(path.join("hard/one"), path.join("three"))?;
    let sparse = fs::File::create(path.join("sparse"))?;
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 1 << 20)?;
    fs::create_dir(path.join("special"))?;
    fs::write(path.join("special/file"), "beside\n")?;
    command::output(Command::new("mkfifo").arg(path.join("special/pipe")))?;
    fs::create_dir(path.join("context"))?;
    fs::write(path.join("context/foo"), "foo\n")?;
    archives(path)
}

/// Makes, in the new directory `path`, files that layers cannot hold: sockets, and names that mean
/// something else there.
pub fn make_odd(path: &Path) -> Result<()> {
    fs::create_dir_all(path.join("whited"))?;
    fs::create_dir(path.join("special"))?;
    fs::write(path.join("special/file"), "beside\n")?;
    drop(UnixListener::bind(path.join("special/socket"))?);
    fs::write(path.join("whited/.wh.x"), "no whiteout\n")?;
    fs::write(path.join("whited/y"), "y\n")?;
    let tar = Tarball::new()
        .push(&Member::file("tmp/new", b"new\n"))
        .push(&Member::file("tmp/.wh.x", b"x\n"))
        .finish();
    Ok(fs::write(path.join("whited.tar"), tar)?)
}

/// Archives of every kind of file, and in every compression.
fn archives(path: &Path) -> Result<()> {
    let owned = |member: Member, mode, uid, gid| Member {
        mode,
        uid,
        gid,
        ..member
    };
    let long = format!("in/{}/{}", "l".repeat(90), "n".repeat(120));
    let tar = Tarball::new()
        .push(&owned(Member::directory("in"), 0o750, 7, 8))
        .push(&owned(
            Member::file("in/file", b"file\n"),
            0o640,
            1000,
            1001,
        ))
        .push(&Member::hardlink("in/twin", "in/file"))
        .push(&owned(Member::file("in/setuid", b"s\n"), 0o4755, 3, 3))
        .push(&Member::symlink("in/link", "file"))
        .push(&Member::symlink("in/away", "/etc"))
        .push(&Member::fifo("in/pipe"))
        .push(&Member::char_device("in/null", 1, 3))
        .push(&Member::file(&long, b"long\n"))
        .push(&Member::file("no/parent/entry", b"deep\n"))
        .push(&Member::file("./dotted", b"dotted\n"))
        .push(&Member::file("/rooted", b"rooted\n"))
        .finish();
    fs::create_dir(path.join("packed"))?;
    fs::write(path.join("packed/a.tar"), &tar)?;
    fs::write(path.join("packed/named.txt"), gzip(&tar)?)?;
    fs::write(
        path.join("packed/a.tar.zst"),
        zstd::encode_all(&tar[..], 3)?,
    )?;
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    bzip2.write_all(&tar)?;
    fs::write(path.join("packed/a.tar.bz2"), bzip2.finish()?)?;
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
    xz.write_all(&tar)?;
    fs::write(path.join("packed/a.tar.xz"), xz.finish()?)?;
    fs::write(path.join("files/a.gz"), gzip(b"a\n")?)?;
    let replacing = Tarball::new()
        .push(&Member::file("etc/passwd", b"replaced\n"))
        .push(&Member::directory("bin"))
        .push(&Member::file("tmp/new", b"new\n"))
        .finish();
    fs::write(path.join("packed/replacing.tar"), replacing)?;
    let noted = Member::file("noted", b"noted\n")
        .xattr("user.note", "told")
        .xattr("security.capability", CAPABILITY);
    fs::write(
        path.join("packed/noted.tar"),
        Tarball::new().push(&noted).finish(),
    )?;
    Ok(())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}
