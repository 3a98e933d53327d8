//! What a build is asked to do.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use oci::{Platform, Reference};
use runtime::Limits;
use store::Pick;

use crate::{BaseImages, CacheExport, Event, ImportedCache};

/// One build, as the command line gives it.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The text of the Dockerfile.
    pub dockerfile: Vec<u8>,
    /// Its name in messages, and relative to which `<name>.dockerignore` is looked up.
    pub dockerfile_name: String,
    /// Where it was read from: `<path>.dockerignore` beside it goes first.
    pub dockerfile_place: DockerfilePlace,
    /// The directory that COPY and ADD read; `None` is an empty context.
    pub context: Option<PathBuf>,
    /// `--build-context`, by the name that [`context_name`](crate::context_name) gives.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What becomes of the result.
    pub result: ResultKind,
    /// Names for the result.
    pub tags: Vec<Reference>,
    /// `--build-arg`, by name.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: a stage by name or number.
    pub target: Option<String>,
    /// What to build for.
    pub platform: Platform,
    /// What else to build for, none of it twice. The result is an index then.
    pub other_platforms: Vec<Platform>,
    /// Whether results of earlier steps are used.
    pub cache: CacheUse,
    /// Whether the image carries what is remembered of its steps.
    pub inline_cache: InlineCache,
    /// `--no-cache-filter`: stages, by name, for which they are not.
    pub uncached_stages: Vec<String>,
    /// `--label`, set last.
    pub labels: BTreeMap<String, String>,
    /// `SOURCE_DATE_EPOCH`; without it times are clamped to the newest in the context.
    pub epoch: Option<i64>,
    /// What the containers of RUN are like.
    pub sandbox: Sandbox,
    /// How many steps may run at once; at least one does.
    pub jobs: usize,
    /// `--secret`, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// `--ssh`: the sockets of agents, by name.
    pub agents: BTreeMap<String, PathBuf>,
}

/// What a name stands for that a Dockerfile reads from: it goes before stages and images of that
/// name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory, less what its `.dockerignore` hides.
    Directory(PathBuf),
    /// An image that is found or pulled like others.
    Image(Reference),
    /// An image of the OCI layout in this directory.
    Layout(PathBuf, Pick),
    /// Nothing.
    Scratch,
}

/// What only those steps see that ask for it: it is in no layer, no history and no record.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// How many bytes a secret may have, as in BuildKit.
    pub const MAX_SIZE: usize = 500 << 10;

    /// Keeps a secret; `None` when it is too large.
    pub fn new(content: Vec<u8>) -> Option<Self> {
        (content.len() <= Self::MAX_SIZE).then_some(Self(content))
    }

    /// Returns what it says.
    pub(crate) fn content(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl BuildOptions {
    /// Returns what to build for.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        std::iter::once(&self.platform).chain(&self.other_platforms)
    }

    /// Returns the epoch that was given, also as `--build-arg SOURCE_DATE_EPOCH=…`.
    pub(crate) fn given_epoch(&self) -> Option<i64> {
        let argument = || self.build_args.get("SOURCE_DATE_EPOCH")?.parse().ok();
        self.epoch.or_else(argument)
    }
}

/// What becomes of the result of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    /// An image in the store.
    Image,
    /// Only its files are wanted: the store gets no image.
    Files,
}

/// Where a Dockerfile was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfilePlace {
    /// It is no file.
    Nowhere,
    /// The user's file.
    File(PathBuf),
    /// This path in a context that others made: no link is followed out of it.
    Context(PathBuf),
}

/// Whether results of earlier steps are used. They are recorded in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// As docker does by default.
    Use,
    /// `--no-cache`.
    Ignore,
}

/// Whether an image carries what is remembered of its steps (`--cache-to type=inline`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InlineCache {
    /// It does not.
    Leave,
    /// Its configuration has a member for them.
    Add,
}

/// The network of RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// That of the machine.
    Host,
    /// Loopback only.
    None,
}

/// What the containers of RUN are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Their network, unless an instruction says otherwise.
    pub network: Network,
    /// `--add-host`: more names and their addresses.
    pub hosts: Vec<(String, IpAddr)>,
    /// How much their processes may take.
    pub limits: Limits,
}

/// What a build works with.
pub struct BuildContext<'a> {
    /// Where layers, steps and the image are kept. The caller holds its lock shared.
    pub store: &'a store::Store,
    /// Where base images and downloads come from.
    pub base_images: &'a dyn BaseImages,
    /// What other builds made (`--cache-from`), the best first.
    pub caches: &'a [&'a dyn ImportedCache],
    /// Where the cache goes (`--cache-to`), after the image.
    pub exports: &'a [&'a dyn CacheExport],
    /// The form in which layers are mounted for RUN.
    pub form: layer::Form,
    /// Becomes true when the user wants the build to end; a running step is killed.
    pub cancel: &'a AtomicBool,
    /// Takes progress, from several threads.
    pub progress: &'a (dyn Fn(Event) + Sync),
}

impl fmt::Debug for BuildContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildContext").finish_non_exhaustive()
    }
}
