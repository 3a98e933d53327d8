//! An image from a Dockerfile.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use build::{BuildContext, BuildError, BuildOptions, Built, CacheExport, Event, ImportedCache};
use layer::{FlattenError, LayerDir, View, ViewError, flatten, flatten_into};
use oci::{DiffId, Platform};
use store::{StoreError, Timestamp};

use super::base_images::{EngineImages, PullPolicy, Tags};
use super::build_cache::{CacheLocation, CacheTarget, EngineCache, EngineExport};
use super::build_log::BuildLog;
use super::build_record::{self, BuildPlace, Ending};
use super::files::{Special, WriteFileError, write_each, write_files};
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
    /// The layers of the result cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The result was not written as files.
    #[error(transparent)]
    Files(#[from] WriteFileError),
    /// The result was not written as a tar.
    #[error(transparent)]
    Tar(#[from] FlattenError),
    /// A directory or file for the result cannot be made.
    #[error("cannot write the result to `{}`", path.display())]
    Output {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is made of the files of a result.
#[derive(Debug)]
pub struct FilesOutput {
    /// The form.
    pub form: FilesForm,
    /// Whether those of each platform have a directory of their own.
    pub split: Split,
}

/// The form in which files are written.
#[derive(Debug)]
pub enum FilesForm {
    /// Files in this directory, which is made when it lacks.
    Directory(PathBuf),
    /// A tar.
    Tar(File),
}

/// Whether the files of each platform have a directory of their own, such as `linux_arm64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// When the build is for several platforms.
    WhenSeveral,
    /// Also when it is for one.
    Always,
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

/// Answers a question about what would be built. Nothing is built; base images may be pulled.
pub fn ask<T>(
    engine: &Engine,
    pull: PullPolicy,
    question: impl FnOnce(&BuildContext<'_>) -> Result<T, BuildError>,
) -> Result<T, ImageBuildError> {
    let store = engine.store();
    let _lock = store.lock_shared()?;
    let base_images = EngineImages::new(engine, pull, Tags::Give);
    Ok(question(&BuildContext {
        store,
        base_images: &base_images,
        caches: &[],
        exports: &[],
        form: engine.form().map_err(ImageBuildError::Form)?,
        cancel: &AtomicBool::new(false),
        progress: &|_| {},
    })?)
}

/// What a build has to do with the world outside the store.
#[derive(Debug)]
pub struct Surroundings {
    /// When registries are asked for base images.
    pub pull: PullPolicy,
    /// Where its files go.
    pub outputs: Vec<FilesOutput>,
    /// Caches of other builds.
    pub caches: Vec<CacheLocation>,
    /// Where its cache goes.
    pub exports: Vec<CacheTarget>,
    /// What the user calls what is built.
    pub place: BuildPlace,
}

/// Builds an image, gives it its names, and writes its files to its outputs.
pub fn build_image(
    engine: &Engine,
    options: &BuildOptions,
    surroundings: &mut Surroundings,
    conversation: &Conversation<'_>,
) -> Result<Built, ImageBuildError> {
    let store = engine.store();
    store.make_room()?;
    let lock = store.lock_shared()?;
    let (started, clock) = (Timestamp::now(), Instant::now());
    let log = BuildLog::start(store);
    let progress = |event: Event| {
        log.note(&event);
        (conversation.progress)(event);
    };
    let tags = match options.other_platforms.is_empty() {
        true => Tags::Give,
        false => Tags::Leave,
    };
    let base_images = EngineImages::new(engine, surroundings.pull, tags);
    let caches = surroundings.caches.iter();
    let caches: Vec<EngineCache<'_>> = caches
        .map(|location| EngineCache::new(engine, location))
        .collect();
    let exports = surroundings.exports.iter().map(|target| EngineExport {
        engine,
        target,
        imported: &caches,
    });
    let exports: Vec<EngineExport<'_>> = exports.collect();
    let imported: Vec<&dyn ImportedCache> = caches.iter().map(|it| it as _).collect();
    let exported: Vec<&dyn CacheExport> = exports.iter().map(|it| it as _).collect();
    let context = BuildContext {
        store,
        base_images: &base_images,
        caches: &imported,
        exports: &exported,
        form: engine.form().map_err(ImageBuildError::Form)?,
        cancel: conversation.cancel,
        progress: &progress,
    };
    let built = build::build(&context, options);
    let ending = Ending {
        result: built.as_ref(),
        is_canceled: conversation.cancel.load(Ordering::Relaxed),
        started,
        took: clock.elapsed(),
        log: log.finish(store),
    };
    let recorded = build_record::record(store, options, &surroundings.place, ending);
    let built = built?;
    recorded?;
    if !surroundings.outputs.is_empty() {
        let dir = |layer: &DiffId| LayerDir::new(store.layer_dir(layer));
        let open = |platform: &Platform, layers: &[DiffId]| {
            let layers: Vec<LayerDir> = layers.iter().map(dir).collect();
            let directory = platform.to_string().replace('/', "_");
            View::open(&layers).map(|view| (directory, view))
        };
        let views = match built.images.as_slice() {
            [] => vec![open(&options.platform, &built.layers)?],
            images => {
                let views = images.iter().map(|it| open(&it.platform, &it.layers));
                views.collect::<Result<_, _>>()?
            }
        };
        for output in &mut surroundings.outputs {
            write_output(&views, output)?;
        }
    }
    drop(lock);
    Ok(built)
}

/// Writes what views show, which are named after their platforms.
fn write_output(views: &[(String, View)], output: &mut FilesOutput) -> Result<(), ImageBuildError> {
    let whole = match (views, output.split) {
        ([(_, only)], Split::WhenSeveral) => Some(only),
        _ => None,
    };
    match (&mut output.form, whole) {
        (FilesForm::Directory(path), whole) => {
            fs::create_dir_all(&*path).map_err(|source| ImageBuildError::Output {
                path: path.clone(),
                source,
            })?;
            match whole {
                Some(view) => write_files(view, path, Special::Make)?,
                None => write_each(views, path)?,
            }
            Ok(())
        }
        (FilesForm::Tar(file), Some(view)) => Ok(flatten(view, file)?),
        (FilesForm::Tar(file), None) => Ok(flatten_into(views, file)?),
    }
}
