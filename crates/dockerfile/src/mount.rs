//! `RUN --mount=`.

/// The text of a `--mount=` flag. Its values may hold variables, so that it becomes a [`Mount`]
/// only when these are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    text: String,
}

/// A mount that one `RUN` sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where; empty for secrets and ssh when the default is meant.
    pub target: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A path of the build context, a stage or an image. Writes are thrown away.
    Bind {
        /// The stage, image or named context; the build context when not given.
        from: Option<String>,
        /// The path in it, `/` when not given.
        source: String,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name, the target when not given.
        id: String,
        /// The stage, image or named context to start from.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// What concurrent builds do.
        sharing: CacheSharing,
        /// The mode of a new directory.
        mode: Option<u32>,
        /// The owner of a new directory.
        uid: Option<u32>,
        /// The group of a new directory.
        gid: Option<u32>,
    },
    /// Memory.
    Tmpfs {
        /// The most bytes it may hold.
        size: Option<u64>,
    },
    /// A secret of the build, as a file or a variable.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// The mode of the file, 0400 when not given.
        mode: Option<u32>,
        /// The owner of the file.
        uid: Option<u32>,
        /// The group of the file.
        gid: Option<u32>,
    },
    /// An ssh agent's socket.
    Ssh {
        /// Its name, `default` when not given.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// The mode of the socket, 0600 when not given.
        mode: Option<u32>,
        /// The owner of the socket.
        uid: Option<u32>,
        /// The group of the socket.
        gid: Option<u32>,
    },
}

/// What concurrent users of a cache mount do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// Use it together.
    #[default]
    Shared,
    /// Get another one.
    Private,
    /// Wait.
    Locked,
}

/// Why a `--mount=` is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A value does not expand.
    #[error(transparent)]
    Expand(#[from] crate::expand::ExpandError),
}

impl MountFlag {
    /// Returns the flag's value as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns `from=`, which never holds variables: what the mount depends on.
    pub fn from(&self) -> Option<String> {
        unimplemented!()
    }

    /// Returns the mount, its values expanded with `variable`.
    pub fn resolve(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        escape: char,
    ) -> Result<Mount, MountError> {
        unimplemented!("{variable:p} {escape}")
    }
}
