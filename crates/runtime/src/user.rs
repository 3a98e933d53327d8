//! Users and groups by name, as docker resolves them.

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The supplementary groups, without the primary one.
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
    #[error("uids and gids must be in range 0-2147483647")]
    OutOfRange(String),
}

/// Resolves `user`, `user:group` or `:group`, by names or numbers, in the given texts of
/// `/etc/passwd` and `/etc/group`; the empty string is root.
///
/// A number without an entry is itself, with group 0 and home `/`. Malformed lines are skipped.
pub fn resolve(_user: &str, _passwd: &[u8], _group: &[u8]) -> Result<User, UserError> {
    unimplemented!()
}
