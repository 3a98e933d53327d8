//! Well-formed tars made of a fuzzer's choices: few names, so that entries meet.

use arbitrary::{Result, Unstructured};
use testkit::tarball::{Format, Member, Tarball};

/// The most entries of a tar.
const MAX_MEMBERS: usize = 24;

const NAMES: [&[u8]; 22] = [
    b"a",
    b"a",
    b"a",
    b"b",
    b"b",
    b"c",
    b"d",
    b"\xff\x80",
    b"\x1b[2J",
    b".wh.a",
    b".wh.b",
    b".wh.",
    b".wh..",
    b".wh...",
    b".wh..wh.plnk",
    b".wh..wh..opq",
    b".wh..wh..opq",
    b".",
    b"",
    b"..",
    &[b'n'; 255],
    &[b'l'; 120],
];

const TARGETS: [&[u8]; 16] = [
    b"a",
    b"b",
    b"/",
    b".",
    b"..",
    b"../a",
    b"../../../../b",
    b"a/b",
    b"/b/c",
    b"/c/../a",
    b"d",
    b"",
    b"/proc/self/root",
    &[b't'; 60],
    &[b'u'; 480],
    &[b'v'; 4095],
];

const XATTRS: [&[u8]; 9] = [
    b"user.a",
    b"user.b",
    b"user.overlay.opaque",
    b"user.overlay.strata.implied",
    b"trusted.overlay.redirect",
    b"trusted.x",
    b"security.x",
    b"system.nfs4_acl",
    b"nonsense",
];

/// One thing that a tar is made of.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// An entry, and what its content unpacks to.
    Member {
        member: Box<Member>,
        content: Vec<u8>,
    },
    /// A global header that sets the group of all entries that follow.
    Group(u32),
}

/// Returns the items that `input` chooses.
pub(crate) fn items(input: &mut Unstructured<'_>) -> Result<Vec<Item>> {
    let count = input.int_in_range(1..=MAX_MEMBERS)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        if input.is_empty() {
            break;
        }
        items.push(match input.ratio(1, 40)? {
            true => Item::Group(input.int_in_range(0..=70_000)?),
            false => item(input)?,
        });
    }
    Ok(items)
}

/// Returns the tar of `items`.
pub(crate) fn tar(items: &[Item]) -> Vec<u8> {
    let mut tar = Tarball::new();
    for item in items {
        match item {
            Item::Member { member, .. } => tar.push(member),
            Item::Group(gid) => tar.global(&[("gid", &gid.to_string()), ("comment", "x")]),
        };
    }
    tar.finish()
}

fn item(input: &mut Unstructured<'_>) -> Result<Item> {
    let name = path(input)?;
    let mut content = Vec::new();
    let mut member = match input.int_in_range(0..=15)? {
        0..=3 => Member::directory(&name),
        4 | 5 => Member::symlink(&name, *input.choose(&TARGETS)?),
        6 | 7 => Member::hardlink(&name, path(input)?),
        8 => Member::fifo(&name),
        9 => {
            let mut device = || Ok(*input.choose(&[0, 0, 1, 5, 255, 256, 4095, 4096, 1_048_575])?);
            let (major, minor) = (device()?, device()?);
            Member {
                flag: *input.choose(b"334")?,
                ..Member::char_device(&name, major, minor)
            }
        }
        10 => sparse(input, &name, &mut content)?,
        _ => {
            let length = *input.choose(&[0, 1, 5, 511, 512, 513, 1300, 9000])?;
            let seed: u8 = input.arbitrary()?;
            content = (0..length).map(|at: usize| pattern(seed, at)).collect();
            let mut file = Member::file(&name, &content);
            file.flag = *input.choose(b"0007")?;
            file
        }
    };
    describe(input, &mut member)?;
    Ok(Item::Member {
        member: Box::new(member),
        content,
    })
}

fn pattern(seed: u8, at: usize) -> u8 {
    u8::try_from(at % 251).unwrap_or(0).wrapping_add(seed)
}

/// A sparse file in one of PAX's forms. Its segments come in order and may touch.
fn sparse(input: &mut Unstructured<'_>, name: &[u8], content: &mut Vec<u8>) -> Result<Member> {
    let mut map: Vec<usize> = Vec::new();
    let mut stored = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        content.resize(content.len() + input.int_in_range(0..=5000)?, 0);
        let length = input.int_in_range(0..=700)?;
        map.extend([content.len(), length]);
        let bytes: Vec<u8> = (0..length).map(|at| pattern(1, at)).collect();
        stored.extend_from_slice(&bytes);
        content.extend_from_slice(&bytes);
    }
    content.resize(content.len() + input.int_in_range(0..=5000)?, 0);
    let size = content.len().to_string();
    if input.arbitrary()? {
        let texts: Vec<String> = map.iter().map(usize::to_string).collect();
        let file = Member::file(name, &stored).record("GNU.sparse.size", size);
        // Without a map there is no record for it: an empty one takes back.
        return Ok(match texts.is_empty() {
            true => file.record("GNU.sparse.map", "0,0"),
            false => file.record("GNU.sparse.map", texts.join(",")),
        });
    }
    let mut data = format!("{}\n", map.len() / 2).into_bytes();
    for number in &map {
        data.extend_from_slice(format!("{number}\n").as_bytes());
    }
    data.resize(data.len().next_multiple_of(512), 0);
    data.extend_from_slice(&stored);
    Ok(Member::file(name, &data)
        .record("GNU.sparse.major", "1")
        .record("GNU.sparse.minor", "0")
        .record("GNU.sparse.realsize", size))
}

fn describe(input: &mut Unstructured<'_>, member: &mut Member) -> Result<()> {
    member.mode = *input.choose(&[0o644, 0o755, 0, 0o7777, 0o4755, 0o1777])?;
    member.uid = *input.choose(&[0, 0, 1000, 65_535, 65_536, 4_294_967_294])?;
    member.gid = *input.choose(&[0, 0, 1000, 65_536])?;
    member.mtime = *input.choose(&[0, 0, 1, 1_700_000_000, 4_294_967_296, 8_589_934_591])?;
    let is_sparse = !member.records.is_empty();
    let fits = member.name.len() <= 100 && member.link_name.len() <= 100;
    if !is_sparse && input.ratio(1, 4)? {
        member.format = Format::Gnu;
        return Ok(());
    }
    if !is_sparse && fits && member.uid < 2_000_000 && input.ratio(1, 4)? {
        member.format = *input.choose(&[Format::Ustar, Format::V7])?;
        return Ok(());
    }
    member.nanoseconds = *input.choose(&[0, 0, 1, 999_999_999])?;
    if input.ratio(1, 8)? {
        (member.mtime, member.nanoseconds) = (-5, 0);
    }
    for _ in 0..input.int_in_range(0..=2)? {
        let name = *input.choose(&XATTRS)?;
        let length = *input.choose(&[0, 1, 7, 300, 2000])?;
        member.xattrs.insert(name.to_vec(), vec![b'\n'; length]);
    }
    if input.ratio(1, 6)? {
        // Only files have content, and of two sizes the one in the record counts.
        member.claimed_size = Some(*input.choose(&[0, 512, 1 << 33])?);
        if matches!(member.flag, b'0' | b'7') {
            let size = member.content.len().to_string();
            *member = member.clone().record("size", size);
        }
    }
    Ok(())
}

fn path(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut path = match input.ratio(1, 12)? {
        true => b"/".to_vec(),
        false => Vec::new(),
    };
    for number in 0..input.int_in_range(1..=4)? {
        if number > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(input.choose(&NAMES)?);
    }
    Ok(path)
}
