//! An image from a Dockerfile.

use std::io;
use std::sync::atomic::AtomicBool;

use build::{BuildContext, BuildError, BuildOptions, Built, Event};
use store::StoreError;

use super::base_images::{EngineImages, PullPolicy};
use crate::Engine;

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum ImageBuildError {
    /// The build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The kernel was not asked for the form of layers.
    #[error("cannot find out how layers are mounted here")]
    Form(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a build talks with who asked for it.
pub struct Conversation<'a> {
    /// Becomes true when the build shall end.
    pub cancel: &'a AtomicBool,
    /// Takes progress, from several threads.
    pub progress: &'a (dyn Fn(Event) + Sync),
}

impl std::fmt::Debug for Conversation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation")
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

/// Builds an image and gives it its names.
pub fn build_image(
    engine: &Engine,
    options: &BuildOptions,
    pull: PullPolicy,
    conversation: &Conversation<'_>,
) -> Result<Built, ImageBuildError> {
    let store = engine.store();
    store.make_room()?;
    let lock = store.lock_shared()?;
    let base_images = EngineImages::new(engine, pull);
    let context = BuildContext {
        store,
        base_images: &base_images,
        form: engine.form().map_err(ImageBuildError::Form)?,
        cancel: conversation.cancel,
        progress: conversation.progress,
    };
    let built = build::build(&context, options)?;
    drop(lock);
    Ok(built)
}
