//! Vertices: the steps of a build that make a layer.

use dockerfile::{CacheSharing, Ownership, Span};
use oci::{DiffId, Digest, Platform};

use crate::{Chmod, GitSource};

/// A step that makes one layer on top of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// What it builds on.
    pub origin: Origin,
    /// What it does.
    pub operation: Operation,
    /// As docker shows it: `[2/6] WORKDIR /app`.
    pub name: String,
    /// The lines of its instruction.
    pub span: Span,
    /// The text of its history entry.
    pub instruction: String,
    /// The name of its stage; empty when it has none.
    pub stage: String,
    /// What its programs are for.
    pub platform: Platform,
}

/// The content that a vertex builds on or reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// These layers, bottom first; none for `scratch`.
    Layers(Vec<DiffId>),
    /// The layers of the vertex with this index, and its own on top.
    Vertex(usize),
}

/// What a vertex does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `COPY` and `ADD`.
    Files(Files),
    /// `RUN`.
    Run(RunStep),
    /// `WORKDIR`.
    Workdir(Workdir),
}

/// `COPY` and `ADD`, expanded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Files {
    /// Where paths are read.
    pub from: FilesFrom,
    /// What is copied, in order.
    pub items: Vec<Item>,
    /// Where to.
    pub destination: Destination,
    /// `--chown`.
    pub owner: Option<String>,
    /// `--chmod`.
    pub mode: Option<Chmod>,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
    /// Whether archives are unpacked.
    pub archives: Archives,
    /// `--link`.
    pub link: Link,
    /// `--checksum` of the only item, a URL.
    pub checksum: Option<Digest>,
}

impl Files {
    /// The copy of a path, perhaps with wildcards, to the root of a layer of its own.
    pub(crate) fn to_root(from: FilesFrom, path: String) -> Self {
        Self {
            from,
            items: vec![Item::Path(path)],
            destination: Destination {
                path: "/".to_owned(),
                form: DestinationForm::Directory,
            },
            owner: None,
            mode: None,
            exclude: Vec::new(),
            archives: Archives::Keep,
            link: Link::Apart,
            checksum: None,
        }
    }
}

/// Where `COPY` and `ADD` read paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FilesFrom {
    /// The build context, or the one with this name.
    Context(Option<String>),
    /// A stage or an image.
    Origin(Origin),
}

impl FilesFrom {
    /// Returns the stage or image.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Origin(origin) => Some(origin),
            Self::Context(_) => None,
        }
    }
}

/// One source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Item {
    /// A path, perhaps with wildcards; absolute and clean.
    Path(String),
    /// Paths below a base, perhaps with wildcards; what lies between is kept (`--parents`).
    Below {
        /// The path of the base, perhaps with wildcards; absolute and clean.
        base: String,
        /// The paths below it, without a leading slash; empty for all. `**` is any directories.
        pattern: String,
    },
    /// A URL of `ADD`.
    Url(String),
    /// A git repository of `ADD`.
    Git(Box<GitSource>),
    /// A file that is written in the Dockerfile.
    Inline {
        /// Its name.
        name: String,
        /// Its content.
        content: String,
    },
}

/// The destination of `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The path, absolute and clean.
    pub path: String,
    /// What the path says about what it names.
    pub form: DestinationForm,
}

/// What a destination says about what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DestinationForm {
    /// It ends with a slash: a directory, made when missing.
    Directory,
    /// What is there, or what is copied, decides.
    Any,
}

/// What `ADD` does with archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Archives {
    /// Copies them like other files.
    Keep,
    /// Unpacks local ones.
    UnpackLocal,
    /// Unpacks local and downloaded ones.
    UnpackAll,
}

/// What `COPY` and `ADD` see at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// The parent's files: symbolic links are followed, directories are merged.
    Parent,
    /// Nothing (`--link`): the layer does not depend on the parent.
    Apart,
}

/// `RUN`, expanded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunStep {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, with arguments that are in scope.
    pub env: Vec<String>,
    /// Settings of proxies, which do not count for the cache.
    pub proxies: Vec<String>,
    /// `user[:group]`.
    pub user: String,
    /// The directory to start in.
    pub cwd: String,
    /// `--network`; `None` leaves it to the build.
    pub network: Option<crate::Network>,
    /// A heredoc with a `#!` line, run as a program.
    pub script: Option<Script>,
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
}

/// `RUN --mount`, expanded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    /// Where, absolute and clean; a secret that is only a variable has none.
    pub target: Option<String>,
    /// What.
    pub kind: MountKind,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// A path of the context, a stage or an image. What is written to it is thrown away.
    Bind {
        /// Where the path is read.
        from: FilesFrom,
        /// The path, absolute and clean.
        source: String,
    },
    /// A directory that outlives the build.
    Cache(Cache),
    /// Memory.
    Tmpfs {
        /// The most bytes it may hold; 0 is no limit.
        size: u64,
    },
    /// A secret of the build.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// The mode and owner of its file.
        owner: Ownership,
    },
    /// An ssh agent's socket.
    Ssh {
        /// Its name.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// The mode and owner of the socket.
        owner: Ownership,
    },
}

/// A directory that outlives the build.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cache {
    /// Its name.
    pub id: String,
    /// What a new one starts with; `None` is nothing.
    pub from: Option<Origin>,
    /// The path that is shown, absolute and clean.
    pub source: String,
    /// What concurrent steps do.
    pub sharing: CacheSharing,
    /// The mode and owner of a new directory.
    pub owner: Ownership,
}

impl Vertex {
    /// Returns what the vertex reads beside its own origin, in the order in which it names them.
    pub fn sources(&self) -> Vec<&Origin> {
        match &self.operation {
            Operation::Files(files) => files.from.origin().into_iter().collect(),
            Operation::Run(step) => step.mounts.iter().filter_map(Mount::origin).collect(),
            Operation::Workdir(_) => Vec::new(),
        }
    }
}

impl Mount {
    /// Returns where a bind mount reads.
    pub fn shown_from(&self) -> Option<&FilesFrom> {
        match &self.kind {
            MountKind::Bind { from, .. } => Some(from),
            _ => None,
        }
    }

    /// Returns the stage or image that it shows or starts with.
    pub fn origin(&self) -> Option<&Origin> {
        match &self.kind {
            MountKind::Bind { from, .. } => from.origin(),
            MountKind::Cache(cache) => cache.from.as_ref(),
            MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        }
    }
}

/// A program that is written in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Script {
    /// Its name, without directory.
    pub name: String,
    /// Its content.
    pub content: String,
}

impl Script {
    /// Where a step sees its script, as in BuildKit.
    pub const DIRECTORY: &str = "/dev/pipes";
}

/// `WORKDIR`, made absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workdir {
    /// The directory.
    pub path: String,
    /// Who owns the directories that are made.
    pub user: String,
}
