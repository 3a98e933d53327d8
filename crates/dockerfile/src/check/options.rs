//! What the checks must know about the build.

use std::collections::BTreeMap;
use std::fmt;

use super::Settings;
use crate::ignore::Patterns;

/// What the checks must know about the build.
#[derive(Clone, Copy)]
pub struct CheckOptions<'a> {
    /// `--build-arg`.
    pub build_args: &'a BTreeMap<String, String>,
    /// The arguments that every build has: `TARGETPLATFORM`, `BUILDARCH` and so on.
    pub platform_args: &'a BTreeMap<String, String>,
    /// Which stages are checked.
    pub coverage: Coverage<'a>,
    /// The `.dockerignore` of the context.
    pub ignore: Option<&'a Patterns>,
    /// Replaces the settings of the Dockerfile.
    pub settings: Option<&'a Settings>,
    /// Returns what is known about a base image.
    pub base: &'a dyn Fn(&str) -> Base,
    /// Tells whether a text is an image name.
    pub is_image_name: &'a dyn Fn(&str) -> bool,
}

/// Which stages are checked for more than their style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage<'a> {
    /// All.
    All,
    /// Those that a target needs; the last stage when not given.
    Target(Option<&'a str>),
}

/// What is known about a base image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Its shell; empty when it has none of its own.
    pub shell: Vec<String>,
}

impl fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckOptions")
            .field("build_args", &self.build_args)
            .field("platform_args", &self.platform_args)
            .field("coverage", &self.coverage)
            .field("ignore", &self.ignore)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
