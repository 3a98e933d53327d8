//! Which extended attributes a layer keeps.

use std::collections::BTreeMap;

use crate::EntryError;

/// A value's length has 16 bits in an index.
const MAX_VALUE: usize = 0xffff;
/// A name's length, without its prefix, has 8 bits.
const MAX_NAME: usize = 0xff;
/// All attributes of one file, with their headers: 16 bits of four-byte units.
const MAX_TOTAL: usize = 4 * 0xfffe;
const ENTRY_HEADER: usize = 4;

/// Prefixes and the numbers that stand for them in EROFS. ACLs have no name after theirs.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];
const ACLS: [u8; 2] = [2, 3];

/// Attributes that overlayfs gives a meaning: an image has no say in it.
const OVERLAY: [&[u8]; 2] = [b"user.overlay.", b"trusted.overlay."];

/// Tells whether a layer keeps the attribute `name`. Attributes of no known kind cannot be set
/// on Linux either.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    split(name).is_some() && !is_overlay(name)
}

/// Tells whether overlayfs gives the attribute a meaning.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    OVERLAY.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the number of the prefix and the rest of the name.
pub(crate) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(prefix, number)| {
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() == ACLS.contains(&number)).then_some((number, rest))
    })
}

/// Returns the full name, or `None` for an unknown prefix.
pub(crate) fn join(number: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == number)?;
    Some([prefix, rest].concat())
}

/// Checks that the attributes, all of them kept, fit an index.
pub(crate) fn check(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), EntryError> {
    let mut total = 0;
    for (name, value) in xattrs {
        // A tar may have a name of a megabyte; Linux takes 255 bytes.
        let error = || EntryError::Xattr {
            name: name[..name.len().min(MAX_NAME)].to_vec(),
            size: value.len(),
        };
        let (_, rest) = split(name).ok_or_else(error)?;
        total += (ENTRY_HEADER + rest.len() + value.len()).next_multiple_of(4);
        let fits = rest.len() <= MAX_NAME && value.len() <= MAX_VALUE && total <= MAX_TOTAL;
        if !fits || rest.contains(&0) {
            return Err(error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlayfs_reads_is_not_kept() {
        for (name, expected) in [
            ("user.a", true),
            ("user.", false),
            ("security.capability", true),
            ("trusted.x", true),
            ("system.posix_acl_access", true),
            ("system.posix_acl_accessx", false),
            ("system.nfs4_acl", false),
            ("user.overlay.opaque", false),
            ("trusted.overlay.redirect", false),
            ("user.overlays", true),
            ("x", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), expected, "{name}");
        }
    }
}
