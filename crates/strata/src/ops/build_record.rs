//! What is remembered of a build beside its steps.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use build::{BuildError, BuildOptions, Built, CacheUse, Network};
use oci::{Platform, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{BuildRecord, BuildStatus, Store, StoreError, Timestamp};

use super::build_log::StepCounts;
use crate::describe;

/// The length of the references that docker gives to builds, and their letters.
const REFERENCE: (usize, &[u8; 36]) = (25, b"abcdefghijklmnopqrstuvwxyz0123456789");

/// What is remembered of a build. What was not given is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildAbout {
    /// The context, as the user named it.
    pub context: String,
    /// `--build-context`, as the user gave it.
    pub named_contexts: BTreeMap<String, String>,
    /// `--target`.
    pub target: String,
    /// What it was built for, when that was not this machine.
    pub platforms: Vec<String>,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--network`, when it was not that of the host.
    pub network: String,
    /// `--add-host`.
    pub hosts: Vec<String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`.
    pub uncached_stages: Vec<String>,
    /// `--shm-size`; 0 when it was not given.
    pub shm_size: u64,
    /// `--ulimit`.
    pub ulimits: Vec<String>,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// The names of the image.
    pub tags: Vec<String>,
    /// The image, or what would have been its id.
    pub image: String,
    /// The images it was made of: a package URL and a digest each.
    pub materials: Vec<(String, String)>,
    /// How many steps there were.
    pub steps: StepCounts,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// Why a build failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// In docker's words, without `failed to solve: `.
    pub message: String,
    /// The step.
    pub step: String,
    /// Its lines in the Dockerfile, in docker's box.
    pub excerpt: String,
}

impl BuildAbout {
    /// Reads it from the record of a build; of older records nothing is known.
    pub fn of(record: &BuildRecord) -> Self {
        Self::deserialize(&record.about).unwrap_or_default()
    }

    fn new(options: &BuildOptions, place: &BuildPlace) -> Self {
        let sandbox = &options.sandbox;
        let host = |(name, address): &(String, _)| format!("{name}={address}");
        let is_here = options.platforms().eq([&Platform::host()]);
        Self {
            context: place.context.clone(),
            named_contexts: place.named_contexts.clone(),
            target: options.target.clone().unwrap_or_default(),
            platforms: match is_here {
                true => Vec::new(),
                false => options.platforms().map(Platform::to_string).collect(),
            },
            args: options.build_args.clone(),
            labels: options.labels.clone(),
            network: match sandbox.network {
                Network::Host => String::new(),
                Network::None => "none".to_owned(),
            },
            hosts: sandbox.hosts.iter().map(host).collect(),
            no_cache: options.cache == CacheUse::Ignore,
            uncached_stages: options.uncached_stages.clone(),
            shm_size: sandbox.limits.shm_size,
            ulimits: sandbox
                .limits
                .ulimits
                .iter()
                .map(ToString::to_string)
                .collect(),
            epoch: options.epoch,
            tags: options.tags.iter().map(Reference::to_string).collect(),
            ..Self::default()
        }
    }
}

/// What the user calls what is built.
#[derive(Debug, Clone, Default)]
pub struct BuildPlace {
    /// The context.
    pub context: String,
    /// `--build-context`, by name.
    pub named_contexts: BTreeMap<String, String>,
}

impl BuildPlace {
    /// Returns the name of a build as docker's history shows it: the last part of the context's
    /// path, the Dockerfile when it has another name, the target.
    fn name(&self, options: &BuildOptions) -> String {
        let directory = options.context.as_deref();
        let is_here = directory == Some(Path::new(&self.context));
        let real = directory
            .filter(|_| is_here)
            .and_then(|it| fs::canonicalize(it).ok());
        let last = real.as_deref().and_then(Path::file_name);
        let mut name = match last {
            Some(last) => last.to_string_lossy().into_owned(),
            None => self.context.clone(),
        };
        if options.dockerfile_name != "Dockerfile" && !options.dockerfile_name.is_empty() {
            name = format!("{name}/{}", options.dockerfile_name);
        }
        match &options.target {
            Some(target) => format!("{name} ({target})"),
            None => name,
        }
    }
}

/// How a build ended, and how long it took.
pub(super) struct Ending<'a> {
    pub(super) result: Result<&'a Built, &'a BuildError>,
    pub(super) is_canceled: bool,
    pub(super) started: Timestamp,
    pub(super) took: Duration,
    pub(super) log: (Option<oci::Digest>, StepCounts),
}

/// Records a build that has ended.
pub(super) fn record(
    store: &Store,
    options: &BuildOptions,
    place: &BuildPlace,
    ending: Ending<'_>,
) -> Result<(), StoreError> {
    let mut about = BuildAbout::new(options, place);
    let (log, counts) = ending.log;
    about.steps = counts;
    let mut steps = Value::Array(Vec::new());
    let status = match ending.result {
        Ok(built) => {
            about.image = built.id.to_string();
            about.materials = built.bases.iter().map(material).collect();
            steps = built.report.clone();
            BuildStatus::Completed
        }
        Err(error) => {
            let location = error.location.as_ref();
            about.failure = Some(Failure {
                message: describe(error),
                step: error.step.clone().unwrap_or_default(),
                excerpt: location.map(|it| it.excerpt.clone()).unwrap_or_default(),
            });
            match ending.is_canceled {
                true => BuildStatus::Canceled,
                false => BuildStatus::Failed,
            }
        }
    };
    store.put_build(&BuildRecord {
        reference: new_reference().map_err(StoreError::Random)?,
        name: place.name(options),
        dockerfile: options.dockerfile_name.clone(),
        started: ending.started,
        seconds: ending.took.as_secs_f64(),
        status,
        steps,
        about: json!(about),
        log,
    })
}

/// Names an image as SLSA provenance does.
fn material((name, platform, id): &(Reference, Platform, oci::ImageId)) -> (String, String) {
    let tag = name.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
    let platform = platform.to_string().replace('/', "%2F");
    let repository = name.familiar_repository();
    (
        format!("pkg:docker/{repository}{tag}?platform={platform}"),
        id.to_string(),
    )
}

fn new_reference() -> io::Result<String> {
    let (length, letters) = REFERENCE;
    let mut bytes = vec![0_u8; length];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let letter = |byte: &u8| char::from(letters[usize::from(*byte) % letters.len()]);
    Ok(bytes.iter().map(letter).collect())
}
