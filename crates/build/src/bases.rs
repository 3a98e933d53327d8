//! The base images of a build, fetched at the same time.

use std::sync::{Mutex, PoisonError};
use std::thread;

use dockerfile::Span;
use dockerfile::check::Base;
use layer::Timestamp;
use oci::{Platform, Reference};

use crate::base::{BaseImage, BaseImageError};
use crate::fault::Faults;
use crate::located::Located;
use crate::lower::LowerError;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::{BuildContext, BuildError};

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
            let (reference, platform, _) = &image;
            if !images
                .iter()
                .any(|(r, p, _)| r == reference && p == platform)
            {
                images.push(image);
            }
        }
        let fetch = |(reference, platform, span): &(Reference, Platform, Span)| {
            let of_several = match others {
                [] => String::new(),
                _ => format!("{platform} "),
            };
            let name = format!("[{of_several}internal] load metadata for {reference}");
            let step = progress.start(&name);
            match context.base_images.base_image(reference, platform) {
                Ok(image) => {
                    step.done();
                    Ok((reference.clone(), platform.clone(), image))
                }
                Err(source) => {
                    step.failed(source.to_string());
                    let error = LowerError::BaseImage {
                        name: reference.familiar(),
                        reference: reference.to_string(),
                        source,
                    };
                    let located = Located::at(*span, error);
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
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, BaseImageError> {
        let known = self
            .0
            .iter()
            .find(|(r, p, _)| r == reference && p == platform);
        match known {
            Some((_, _, image)) => Ok(image.clone()),
            // A trigger of a base image names it.
            None => context.base_images.base_image(reference, platform),
        }
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
