//! Users and groups by name, as docker resolves them.

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The supplementary groups, as listed in the group file.
    pub groups: Vec<u32>,
    /// The home directory; `/` when the user has no entry.
    pub home: String,
}

/// Why a user or group does not resolve; docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name without an entry.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// A group name without an entry.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    /// A number that is no valid id.
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    OutOfRange(String),
}

/// The highest id that docker takes.
const MAX_ID: u32 = 0x7fff_ffff;

/// Resolves `user`, `user:group` or `:group`, by names or numbers, in the given texts of
/// `/etc/passwd` and `/etc/group`; the empty string is root.
///
/// A number without an entry is itself, with group 0 and home `/`. Supplementary groups count
/// only when no group is given. The first matching line wins; malformed lines are skipped.
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<User, UserError> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let group_part = group_part.split(':').next().unwrap_or_default();
    let wanted = Wanted::parse(if user_part.is_empty() { "0" } else { user_part });
    let entry = passwd_entries(passwd).find(|entry| match &wanted {
        Wanted::Number(number) => i64::from(entry.uid) == *number,
        Wanted::Name(name) => entry.name == name.as_bytes(),
    });
    let (mut resolved, name) = match (entry, &wanted) {
        (Some(entry), _) => (entry.user(), Some(entry.name)),
        (None, Wanted::Name(name)) => return Err(UserError::NoSuchUser((*name).to_owned())),
        (None, Wanted::Number(number)) => {
            let user = User {
                uid: in_range(*number, user_part)?,
                gid: 0,
                groups: Vec::new(),
                home: "/".to_owned(),
            };
            (user, None)
        }
    };
    if group_part.is_empty() {
        if let Some(name) = name {
            resolved.groups = group_entries(group)
                .filter(|entry| entry.members.split(|byte| *byte == b',').any(|m| m == name))
                .map(|entry| entry.gid)
                .collect();
        }
        return Ok(resolved);
    }
    let wanted = Wanted::parse(group_part);
    let entry = group_entries(group).find(|entry| match &wanted {
        Wanted::Number(number) => i64::from(entry.gid) == *number,
        Wanted::Name(name) => entry.name == name.as_bytes(),
    });
    resolved.gid = match (entry, wanted) {
        (Some(entry), _) => entry.gid,
        (None, Wanted::Number(number)) => in_range(number, group_part)?,
        (None, Wanted::Name(name)) => return Err(UserError::NoSuchGroup(name.to_owned())),
    };
    Ok(resolved)
}

fn in_range(number: i64, text: &str) -> Result<u32, UserError> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id <= MAX_ID)
        .ok_or_else(|| UserError::OutOfRange(text.to_owned()))
}

enum Wanted<'a> {
    Number(i64),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Self {
        text.parse().map_or(Self::Name(text), Self::Number)
    }
}

#[derive(Clone, Copy)]
struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl PasswdEntry<'_> {
    fn user(self) -> User {
        let home = String::from_utf8_lossy(self.home);
        User {
            uid: self.uid,
            gid: self.gid,
            groups: Vec::new(),
            home: if home.is_empty() {
                "/".to_owned()
            } else {
                home.into_owned()
            },
        }
    }
}

struct GroupEntry<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// `name:password:uid:gid:comment:home:shell`
fn passwd_entries(text: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry {
            name,
            uid,
            gid,
            home,
        })
    })
}

/// `name:password:gid:member,member`
fn group_entries(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let gid = id(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        Some(GroupEntry { name, gid, members })
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn id(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\n# comment\nbroken\nbad:x:no:1::/:\n\
        app:x:1000:100:App:/home/app:/bin/sh\napp:x:1:1::/second:\nnohome:x:7:7\n1001:x:5:6::/n:\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\nusers:x:100:\nextra:x:20:app\nbad:x::\n";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<User, UserError> {
        Ok(User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        })
    }

    #[test]
    fn users_resolve_as_dockers_do() {
        let missing = |name: &str| Err(UserError::NoSuchUser(name.to_owned()));
        let no_group = |name: &str| Err(UserError::NoSuchGroup(name.to_owned()));
        let table = [
            ("", user(0, 0, &[10], "/root")),
            ("root", user(0, 0, &[10], "/root")),
            ("0", user(0, 0, &[10], "/root")),
            ("app", user(1000, 100, &[10, 20], "/home/app")),
            ("1000", user(1000, 100, &[10, 20], "/home/app")),
            ("app:users", user(1000, 100, &[], "/home/app")),
            ("app:20", user(1000, 20, &[], "/home/app")),
            ("app:4242", user(1000, 4242, &[], "/home/app")),
            (":wheel", user(0, 10, &[], "/root")),
            ("4242", user(4242, 0, &[], "/")),
            ("4242:4243", user(4242, 4243, &[], "/")),
            // A number is never a name, not even where a user of that name exists.
            ("1001", user(1001, 0, &[], "/")),
            ("nohome", user(7, 7, &[], "/")),
            ("nouser", missing("nouser")),
            ("bad", missing("bad")),
            ("broken", missing("broken")),
            ("app:nogroup", no_group("nogroup")),
            ("app:bad", no_group("bad")),
            ("-1", Err(UserError::OutOfRange("-1".to_owned()))),
            (
                "2147483648",
                Err(UserError::OutOfRange("2147483648".to_owned())),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(resolve(text, PASSWD, GROUP), expected, "{text:?}");
        }
    }

    #[test]
    fn without_files_only_numbers_resolve() {
        assert_eq!(resolve("", b"", b""), user(0, 0, &[], "/"));
        assert_eq!(resolve("5:6", b"", b""), user(5, 6, &[], "/"));
        assert_eq!(
            resolve("nouser", b"", b"").unwrap_err().to_string(),
            "unable to find user nouser: no matching entries in passwd file"
        );
    }
}
