//! The base images of a build, fetched at the same time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use dockerfile::check::Base;
use layer::Timestamp;
use oci::{ImageId, Platform, Reference};
use store::Pick;

use crate::base::{BaseImage, BaseImageError};
use crate::fault::Faults;
use crate::located::Located;
use crate::lower::LowerError;
use crate::plan::{Plan, PlannedImage};
use crate::progress::Progress;
use crate::{BuildContext, BuildError, BuildOptions, NamedContext};

/// Gives the image of a name: of a layout when a context says so.
fn get(
    context: &BuildContext<'_>,
    layouts: &[(Reference, &Path, &Pick)],
    reference: &Reference,
    platform: &Platform,
) -> Result<BaseImage, BaseImageError> {
    match layouts.iter().find(|(name, ..)| name == reference) {
        Some((_, path, pick)) => context.base_images.layout_image(path, pick, platform),
        None => context.base_images.base_image(reference, platform),
    }
}

/// Returns the layouts among contexts, by the name that the Dockerfile has for them.
fn layouts(contexts: &BTreeMap<String, NamedContext>) -> Vec<(Reference, &Path, &Pick)> {
    let mut layouts = Vec::new();
    for (name, context) in contexts {
        if let (NamedContext::Layout(path, pick), Ok(name)) = (context, Reference::parse(name)) {
            layouts.push((name.or_latest(), path.as_path(), pick));
        }
    }
    layouts
}

/// Base images that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Bases(Vec<(Reference, Platform, BaseImage)>);

impl Bases {
    /// Asks for all images that the plan names, at the same time.
    pub(crate) fn fetch(
        context: &BuildContext<'_>,
        (plan, others): (&Plan, &[Plan]),
        progress: &Progress<'_>,
        faults: &Faults<'_>,
    ) -> Result<Self, BuildError> {
        let mut images = plan.images();
        for image in others.iter().flat_map(Plan::images) {
            let is_same = |it: &PlannedImage| {
                it.reference == image.reference && it.platform == image.platform
            };
            if !images.iter().any(is_same) {
                images.push(image);
            }
        }
        let layouts = layouts(&faults.options.contexts);
        let fetch = |image: &PlannedImage| {
            let (reference, platform) = (&image.reference, &image.platform);
            let of_several = match others {
                [] => String::new(),
                _ => format!("{platform} "),
            };
            let name = format!("[{of_several}internal] load metadata for {reference}");
            let step = progress.start(&name);
            match get(context, &layouts, reference, platform) {
                Ok(image) => {
                    step.done();
                    Ok((reference.clone(), platform.clone(), image))
                }
                Err(source) => {
                    step.failed(source.to_string());
                    let error = LowerError::BaseImage {
                        name: image.name.clone(),
                        suggestion: plan.suggest_base(&image.name),
                        reference: reference.to_string(),
                        source,
                    };
                    let located = Located::at(image.span, error);
                    let error = faults.located(located);
                    Err(BuildError {
                        step: Some(name),
                        ..error
                    })
                }
            }
        };
        if let [only] = images.as_slice() {
            return Ok(Self(vec![fetch(only)?]));
        }
        let results = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for image in &images {
                scope.spawn(|| {
                    let result = fetch(image);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push(result);
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let fetched: Result<Vec<_>, BuildError> = results.into_iter().collect();
        fetched.map(Self)
    }

    /// Returns what the checks of a Dockerfile want to know of an image.
    pub(crate) fn describe(&self, name: &str) -> Base {
        let wanted = Reference::parse(name).map(Reference::or_latest).ok();
        let found = self
            .0
            .iter()
            .find(|(known, ..)| Some(known) == wanted.as_ref());
        let Some((_, _, image)) = found else {
            return Base::default();
        };
        let run = &image.config.config;
        let pairs = run
            .env
            .iter()
            .filter_map(|variable| variable.split_once('='));
        Base {
            environment: pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            shell: run.shell.clone().unwrap_or_default(),
        }
    }

    /// Returns an image; one that the plan did not name is fetched now.
    pub(crate) fn get(
        &self,
        context: &BuildContext<'_>,
        options: &BuildOptions,
        (reference, platform): (&Reference, &Platform),
    ) -> Result<BaseImage, BaseImageError> {
        let known = self
            .0
            .iter()
            .find(|(r, p, _)| r == reference && p == platform);
        match known {
            Some((_, _, image)) => Ok(image.clone()),
            // A trigger of a base image names it.
            None => get(context, &layouts(&options.contexts), reference, platform),
        }
    }

    /// Returns the images with the names that they were asked for by.
    pub(crate) fn list(&self) -> Vec<(Reference, Platform, ImageId)> {
        let known = self.0.iter();
        known
            .map(|(name, platform, image)| (name.clone(), platform.clone(), image.id))
            .collect()
    }

    /// Returns how many images the plan names.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns when the newest of them was made.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        let created = |(_, _, image): &(_, _, BaseImage)| {
            let text = image.config.created.as_deref()?;
            let time = store::Timestamp::parse(text)?;
            Some(Timestamp {
                seconds: time.0.div_euclid(1_000_000_000),
                nanoseconds: 0,
            })
        };
        self.0.iter().filter_map(created).max()
    }
}
