//! Tars written by hand, so that they can be wrong.

/// One member of a tar.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    name: Vec<u8>,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    mtime: u64,
    link: Vec<u8>,
    device: (u32, u32),
    content: Vec<u8>,
    records: Vec<(String, Vec<u8>)>,
}

pub(crate) const MTIME: u64 = 1_600_000_000;

impl Member {
    fn new(name: &str, kind: u8, mode: u32) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            kind,
            mode,
            owner: (0, 0),
            mtime: MTIME,
            link: Vec::new(),
            device: (0, 0),
            content: Vec::new(),
            records: Vec::new(),
        }
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn owner(self, uid: u32, gid: u32) -> Self {
        Self {
            owner: (uid, gid),
            ..self
        }
    }

    pub(crate) fn mtime(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    /// Adds a PAX record.
    pub(crate) fn record(mut self, key: &str, value: &[u8]) -> Self {
        self.records.push((key.to_owned(), value.to_vec()));
        self
    }

    pub(crate) fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }

    fn write(&self, tar: &mut Vec<u8>) {
        if !self.records.is_empty() {
            let mut content = Vec::new();
            for (key, value) in &self.records {
                content.extend(record(key, value));
            }
            header(tar, &Self::new("pax", b'x', 0o644), content.len());
            pad(tar, &content);
        }
        header(tar, self, self.content.len());
        pad(tar, &self.content);
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

fn header(tar: &mut Vec<u8>, member: &Member, size: usize) {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    assert!(member.name.len() <= 100 && member.link.len() <= 100);
    put(0, &member.name);
    put(100, format!("{:07o}", member.mode).as_bytes());
    put(108, format!("{:07o}", member.owner.0).as_bytes());
    put(116, format!("{:07o}", member.owner.1).as_bytes());
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{:011o}", member.mtime).as_bytes());
    put(148, b"        ");
    put(156, &[member.kind]);
    put(157, &member.link);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", member.device.0).as_bytes());
    put(337, format!("{:07o}", member.device.1).as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(block);
}

fn pad(tar: &mut Vec<u8>, content: &[u8]) {
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

pub(crate) fn file(name: &str, content: &str) -> Member {
    Member {
        content: content.as_bytes().to_vec(),
        ..Member::new(name, b'0', 0o644)
    }
}

pub(crate) fn directory(name: &str) -> Member {
    Member::new(name, b'5', 0o755)
}

pub(crate) fn symlink(name: &str, target: &str) -> Member {
    Member {
        link: target.as_bytes().to_vec(),
        ..Member::new(name, b'2', 0o777)
    }
}

pub(crate) fn hardlink(name: &str, target: &str) -> Member {
    Member {
        link: target.as_bytes().to_vec(),
        ..Member::new(name, b'1', 0o644)
    }
}

pub(crate) fn character(name: &str, major: u32, minor: u32) -> Member {
    Member {
        device: (major, minor),
        ..Member::new(name, b'3', 0o600)
    }
}

pub(crate) fn block(name: &str, major: u32, minor: u32) -> Member {
    Member {
        device: (major, minor),
        ..Member::new(name, b'4', 0o660)
    }
}

pub(crate) fn fifo(name: &str) -> Member {
    Member::new(name, b'6', 0o600)
}

/// Returns the tar of `members`.
pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut tar = Vec::new();
    for member in members {
        member.write(&mut tar);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}
