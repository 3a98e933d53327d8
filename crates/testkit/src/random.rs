//! Random trees of files, the same for the same seed.

use crate::tarball::{Format, Member, Tarball};

/// A small pseudo-random number generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Returns a generator; equal seeds give equal numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("invariant: 64 bits");
        usize::try_from(self.number() % end).expect("invariant: below a usize")
    }

    /// Returns `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Returns one of `choices`.
    pub fn choice<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Returns the members of a random tree of about `count` files of all types, parents first, in
/// random formats. Names do not repeat, and links lead to earlier members.
pub fn members(seed: u64, count: usize) -> Vec<Member> {
    let mut random = Random::new(seed);
    let mut members = vec![Member {
        mtime: 1,
        ..Member::directory(".")
    }];
    let mut directories: Vec<Vec<u8>> = vec![Vec::new()];
    let mut files: Vec<Vec<u8>> = Vec::new();
    for number in 0..count {
        let name = [
            random.choice(&directories).clone(),
            name(&mut random, number),
        ]
        .concat();
        let mut member = match random.below(20) {
            0..4 => {
                directories.push([&name, &b"/"[..]].concat());
                Member::directory(&name)
            }
            4..7 => {
                let length = *random.choice(&[1, 20, 99, 100, 101, 300, 480, 481, 1000]);
                Member::symlink(&name, vec![b't'; length])
            }
            7 if !files.is_empty() => Member::hardlink(&name, random.choice(&files)),
            8 => Member::fifo(&name),
            9 => Member::char_device(
                &name,
                1 + random.number() % 4095,
                random.number() % 1_048_576,
            ),
            _ => {
                files.push(name.clone());
                let length = *random.choice(&[0, 1, 5, 511, 512, 513, 4095, 4096, 5000, 70_000]);
                Member {
                    content: random.bytes(length),
                    ..Member::file(&name, b"")
                }
            }
        };
        describe(&mut member, &mut random);
        if member.flag == b'1' {
            // All names of a file have one inode, and programs differ in whose metadata counts.
            let file = members.iter().find(|file| file.name == member.link_name);
            let file = file
                .expect("invariant: links lead to earlier members")
                .clone();
            member = Member {
                flag: b'1',
                name: member.name,
                link_name: member.link_name,
                content: Vec::new(),
                ..file
            };
        }
        members.push(member);
    }
    members
}

/// Returns the tar of [`members`].
pub fn tar(seed: u64, count: usize) -> Vec<u8> {
    let mut tar = Tarball::new();
    for member in members(seed, count) {
        tar.push(&member);
    }
    tar.finish()
}

fn name(random: &mut Random, number: usize) -> Vec<u8> {
    let length = *random.choice(&[1, 3, 8, 8, 8, 30, 90, 200]);
    let first = *random.choice(b"!+-.azAZ~\xc3\xff");
    let mut name = vec![first];
    name.extend((1..length).map(|_| *random.choice(b"abc-._+ ")));
    name.extend_from_slice(number.to_string().as_bytes());
    name
}

fn describe(member: &mut Member, random: &mut Random) {
    member.mtime = *random.choice(&[0, 1, 1_700_000_000, 1_700_000_001, 4_000_000_000]);
    member.uid = *random.choice(&[0, 0, 0, 1000, 65_534, 65_536, 2_097_152, 4_000_000_000]);
    member.gid = *random.choice(&[0, 0, 0, 1000, 65_536, 4_000_000_000]);
    let modes = [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o000];
    if member.flag != b'2' {
        member.mode = *random.choice(&modes);
    }
    if random.below(3) == 0 && member.name.len() <= 100 && member.link_name.len() <= 100 {
        member.format = *random.choice(&[Format::Gnu, Format::Ustar]);
        if member.format == Format::Ustar {
            (member.uid, member.gid) = (member.uid % 65_536, member.gid % 65_536);
        }
        return;
    }
    if random.below(5) == 0 {
        member.format = Format::Gnu;
        return;
    }
    member.nanoseconds = *random.choice(&[0, 0, 1, 123_456_789, 999_999_999]);
    if matches!(member.flag, b'0' | b'5') && random.below(4) == 0 {
        for number in 0..=random.below(3) {
            let length = *random.choice(&[1, 4, 20, 300, 600]);
            let value = random.bytes(length);
            member
                .xattrs
                .insert(format!("user.test{number}").into_bytes(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_tar() {
        assert_eq!(tar(1, 50), tar(1, 50));
        assert_ne!(tar(1, 50), tar(2, 50));
    }
}
