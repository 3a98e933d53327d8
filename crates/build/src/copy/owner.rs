//! `--chown`: names to numbers.

use layer::View;
use runtime::user::{self, UserError};

use super::CopyError;

/// Longer user databases are not read.
const MAX_DATABASE: u64 = 8 << 20;
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// Who files belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// User and group.
    pub(crate) ids: (u32, u32),
    /// Names that the image does not have.
    pub(crate) unknown: Vec<UserError>,
}

/// Resolves `user[:group]` by the databases of `image`. A user without a group has, by name,
/// its primary group, and by number, the group of the same number. As in BuildKit, an unknown user
/// is root, and an unknown group is the user's.
pub(crate) fn resolve_owner(image: &View, owner: &str) -> Result<Owner, CopyError> {
    let (name, group) = match owner.split_once(':') {
        None => (owner, None),
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
    };
    let database = |path: &[u8]| {
        let text = image.read_file(path, MAX_DATABASE)?;
        Ok::<_, CopyError>(text.unwrap_or_default())
    };
    let mut unknown = Vec::new();
    let mut known = |found| match found {
        Err(error @ (UserError::NoSuchUser(_) | UserError::NoSuchGroup(_))) => {
            unknown.push(error);
            Ok(None)
        }
        Err(error) => Err(error),
        Ok(user) => Ok(Some(user)),
    };
    let (uid, mut gid) = match number(name)? {
        Some(uid) => (uid, uid),
        None => {
            let found = user::resolve(name, &database(b"etc/passwd")?, b"");
            known(found)?.map_or((0, 0), |user: user::User| (user.uid, user.gid))
        }
    };
    if let Some(group) = group {
        gid = match number(group)? {
            Some(gid) => gid,
            None => {
                let found = user::resolve(&format!("0:{group}"), b"", &database(b"etc/group")?);
                known(found)?.map_or(gid, |user| user.gid)
            }
        };
    }
    Ok(Owner {
        ids: (uid, gid),
        unknown,
    })
}

fn number(text: &str) -> Result<Option<u32>, UserError> {
    if text == "root" {
        return Ok(Some(0));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::OutOfRange(text.to_owned())),
    }
}
