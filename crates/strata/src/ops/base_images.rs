//! Where a build takes base images and downloads from: the store, then the registries.

use std::error::Error;
use std::path::Path;

use build::{BaseImage, BaseImageError, BaseImages, CheckOut, Download, GitSource};
use oci::{Platform, Reference};
use store::{Pick, ResolveError, StoreError};

use super::build_context::RemoteContext;
use super::git::{self, Wish};
use super::load;
use super::pull::{self, Prefer};
use crate::{Engine, describe};

/// When the registry is asked for a base image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the store lacks it.
    Missing,
    /// Always (`--pull`).
    Always,
    /// Never: what the store lacks is an error.
    Never,
}

/// The base images of one build.
#[derive(Debug)]
pub struct EngineImages<'a> {
    engine: &'a Engine,
    policy: PullPolicy,
    tags: Tags,
}

/// Whether the tag of a base image that is pulled for another machine leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// It does when it led to nothing before.
    Give,
    /// It does not: there are several platforms, and this machine's has the tag.
    Leave,
}

impl<'a> EngineImages<'a> {
    /// Returns the images of `engine`.
    pub fn new(engine: &'a Engine, policy: PullPolicy, tags: Tags) -> Self {
        Self {
            engine,
            policy,
            tags,
        }
    }
}

/// The store has the image for another platform only, and nothing may be pulled.
#[derive(Debug, thiserror::Error)]
#[error("no image for {0} in the store, and pulling was forbidden")]
struct NoSuchPlatform(Platform);

/// An error with its causes in one text: a build shows it in the middle of a line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Described(String);

impl Described {
    fn new(error: &(dyn Error + 'static)) -> Self {
        Self(describe(error))
    }
}

impl BaseImages for EngineImages<'_> {
    fn base_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, BaseImageError> {
        let base = self.find(reference, platform)?;
        self.engine.store().touch_image(&base.id)?;
        Ok(base)
    }

    fn layout_image(
        &self,
        path: &Path,
        pick: &Pick,
        platform: &Platform,
    ) -> Result<BaseImage, BaseImageError> {
        let store = self.engine.store();
        let loaded = load::load_layout_image(store, path, pick, platform);
        let id = loaded.map_err(|error| {
            let (path, reason) = (path.display(), describe(&error));
            Described(format!("cannot load the OCI layout `{path}`: {reason}"))
        })?;
        Ok(BaseImage {
            id,
            config: store.image_config(&id)?,
        })
    }

    fn git_commit(&self, source: &GitSource) -> Result<String, BaseImageError> {
        Ok(git::resolve(source).map_err(|error| Described::new(&error))?)
    }

    fn git_check_out(&self, source: &GitSource, commit: &str) -> Result<CheckOut, BaseImageError> {
        let wish = Wish {
            commit: Some(commit),
            keep_git_dir: source.keep_git_dir == Some(true),
        };
        let fetched = RemoteContext::clone_git(self.engine.store(), source, &wish);
        Ok(Box::new(fetched.map_err(|error| Described::new(&error))?))
    }

    fn download(&self, url: &str) -> Result<Download, BaseImageError> {
        let download = self.engine.client()?.download(url)?;
        let last_modified = download
            .last_modified()
            .and_then(|text| jiff::fmt::rfc2822::parse(text).ok())
            .map(|time| time.timestamp().as_second());
        Ok(Download {
            last_modified,
            content: Box::new(download),
        })
    }
}

impl EngineImages<'_> {
    /// Finds a base image in the store or pulls it, as the policy says.
    fn find(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, BaseImageError> {
        let store = self.engine.store();
        let name = reference.clone().or_latest();
        if self.policy != PullPolicy::Always {
            match store.resolve(&name.to_string()) {
                Ok(image) if image.platform.serves(platform) => {
                    let config = store.image_config(&image.id)?;
                    return Ok(BaseImage {
                        id: image.id,
                        config,
                    });
                }
                Ok(_) | Err(ResolveError::NotFound { .. })
                    if self.policy == PullPolicy::Missing => {}
                Ok(_) => return Err(NoSuchPlatform(platform.clone()).into()),
                Err(error) => return Err(error.into()),
            }
        }
        let described = |error| Described::new(&error);
        let is_foreign = !platform.serves(&Platform::host());
        let is_taken = || Ok::<_, StoreError>(store.tagged(&name)?.is_some());
        if is_foreign && (self.tags == Tags::Leave || is_taken()?) {
            let prefer = match self.policy {
                PullPolicy::Always => Prefer::Registry,
                PullPolicy::Missing | PullPolicy::Never => Prefer::Store,
            };
            let id = pull::pull_aside(self.engine, &name, platform, prefer).map_err(described)?;
            return Ok(BaseImage {
                id,
                config: store.image_config(&id)?,
            });
        }
        let here = match self.policy {
            PullPolicy::Always => None,
            _ => pull::unpack_platform(store, &name, platform).map_err(described)?,
        };
        let id = match here {
            Some(id) => id,
            None => {
                let pulled = pull::pull(self.engine, &name, platform, &|_| {});
                pulled.map_err(described)?.copied.image
            }
        };
        Ok(BaseImage {
            id,
            config: store.image_config(&id)?,
        })
    }
}
