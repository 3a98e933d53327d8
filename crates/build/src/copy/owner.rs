//! `--chown`: names to numbers.

use layer::View;
use runtime::user::{self, UserError};

use super::CopyError;

/// Longer user databases are not read.
const MAX_DATABASE: u64 = 8 << 20;
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// What an unknown name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// An error.
    Refuse,
    /// Root, as BuildKit has it.
    Root,
}

/// Resolves `user[:group]` by the databases of `image`. A user without a group has, by name,
/// its primary group, and by number, the group of the same number.
pub(crate) fn resolve_owner(
    image: &View,
    owner: &str,
    unknown: Unknown,
) -> Result<(u32, u32), CopyError> {
    let (name, group) = match owner.split_once(':') {
        None => (owner, None),
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
    };
    let group_number = group.map(number).transpose()?;
    if let Some(uid) = number(name)?
        && let Some(gid) = group_number.unwrap_or(Some(uid))
    {
        return Ok((uid, gid));
    }
    let database = |path: &[u8]| {
        let text = image.read_file(path, MAX_DATABASE)?;
        Ok::<_, CopyError>(text.unwrap_or_default())
    };
    match user::resolve(owner, &database(b"etc/passwd")?, &database(b"etc/group")?) {
        Ok(user) => Ok((user.uid, user.gid)),
        Err(UserError::NoSuchUser(_) | UserError::NoSuchGroup(_)) if unknown == Unknown::Root => {
            Ok((0, 0))
        }
        Err(error) => Err(error.into()),
    }
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
