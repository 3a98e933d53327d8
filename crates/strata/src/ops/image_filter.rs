//! `--filter` of `images` and of the commands that prune.

use std::collections::BTreeMap;

use dockerfile::matching;
use jiff::Timestamp;
use oci::Reference;
use store::{ImageRecord, ResolveError, Store};

use crate::time;

/// Which images are listed: those that every kind of filter given lets through; patterns for
/// names are alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFilter {
    /// Only images without a name, or only images with one.
    pub dangling: Option<bool>,
    /// Patterns for names; `*` stays within one part of the path.
    pub references: Vec<String>,
    /// Labels, with a value or without, all of which are there.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels none of which is there.
    pub without_labels: Vec<(String, Option<String>)>,
    /// Only images made before this one.
    pub before: Option<String>,
    /// Only images made after this one.
    pub since: Option<String>,
    /// Only images made before this time.
    pub until: Option<Timestamp>,
}

/// Why a filter cannot be used. `Display` is docker's own text.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// There is no `=`.
    #[error("invalid filter '{0}'")]
    Unknown(String),
    /// The filter does not take this value.
    #[error("invalid filter '{name}={value}'")]
    InvalidValue {
        /// The filter.
        name: String,
        /// The value.
        value: String,
    },
    /// The image that a filter names is not there.
    #[error(transparent)]
    Image(#[from] ResolveError),
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] matching::PatternError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// The commands that filter images; not all take the same filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `images`.
    List,
    /// `image prune`.
    Prune,
    /// `container prune` and `system prune`.
    PruneContainers,
}

impl ImageFilter {
    /// Reads filters of the form `name=value`.
    pub fn parse<'a>(
        filters: impl Iterator<Item = &'a str>,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Self, FilterError> {
        let mut parsed = Self::default();
        for filter in filters {
            let (name, value) = filter.split_once('=').unwrap_or((filter, ""));
            let (name, value) = (name.trim().to_lowercase(), value.trim());
            let invalid = || FilterError::InvalidValue {
                name: name.clone(),
                value: value.to_owned(),
            };
            match (name.as_str(), purpose) {
                ("dangling", Purpose::List | Purpose::Prune) => {
                    parsed.dangling = Some(parse_bool(value).ok_or_else(invalid)?);
                }
                ("label", _) => parsed.labels.push(label(value)),
                ("label!", Purpose::Prune | Purpose::PruneContainers) => {
                    parsed.without_labels.push(label(value));
                }
                ("until", _) => {
                    parsed.until = Some(time::parse(value, now).ok_or_else(invalid)?);
                }
                ("reference", Purpose::List) => parsed.references.push(value.to_owned()),
                ("before", Purpose::List) => parsed.before = Some(value.to_owned()),
                ("since", Purpose::List) => parsed.since = Some(value.to_owned()),
                _ => return Err(FilterError::Unknown(name)),
            }
        }
        Ok(parsed)
    }

    /// Returns the images that pass, each with only the names that pass.
    pub fn apply(
        &self,
        store: &Store,
        images: Vec<ImageRecord>,
    ) -> Result<Vec<ImageRecord>, FilterError> {
        let moment =
            |name: &Option<String>| -> Result<Option<Option<store::Timestamp>>, FilterError> {
                let Some(name) = name else { return Ok(None) };
                Ok(Some(store.resolve(name)?.created_at()))
            };
        // An image without a date sorts before all others.
        let (before, since) = (moment(&self.before)?, moment(&self.since)?);
        let until = self.until.map(store::Timestamp::from);
        let mut passed = Vec::with_capacity(images.len());
        for mut image in images {
            let time = image.created_at();
            let is_dangling = image.tags.is_empty() && image.repo_digests.is_empty();
            let passes = self.dangling.is_none_or(|dangling| dangling == is_dangling)
                && before.is_none_or(|before| time < before)
                && since.is_none_or(|since| time > since)
                && until.is_none_or(|until| time.is_some_and(|time| time < until))
                && self.labels_pass(&image.labels);
            if passes && self.select_names(&mut image)? {
                passed.push(image);
            }
        }
        Ok(passed)
    }

    /// Tells whether labels pass.
    pub fn labels_pass(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(name, value): &(String, Option<String>)| {
            labels
                .get(name)
                .is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.labels.iter().all(has) && !self.without_labels.iter().any(has)
    }

    /// Keeps the names that a pattern matches; false when there are patterns and none matches.
    fn select_names(&self, image: &mut ImageRecord) -> Result<bool, FilterError> {
        if self.references.is_empty() {
            return Ok(true);
        }
        for names in [&mut image.tags, &mut image.repo_digests] {
            let mut kept = Vec::new();
            for name in names.drain(..) {
                if self.matches_name(&name)? {
                    kept.push(name);
                }
            }
            *names = kept;
        }
        Ok(!image.tags.is_empty() || !image.repo_digests.is_empty())
    }

    fn matches_name(&self, name: &Reference) -> Result<bool, FilterError> {
        for pattern in &self.references {
            let whole = name.familiar();
            let repository = name.familiar_repository();
            if matching::matches(pattern, whole.as_bytes())?
                || matching::matches(pattern, repository.as_bytes())?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn label(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_unknown_ones_refused() {
        let now = Timestamp::UNIX_EPOCH;
        let parse = |filters: &[&str], purpose| {
            ImageFilter::parse(filters.iter().copied(), purpose, now)
                .map_err(|error| error.to_string())
        };
        let filter = parse(&["dangling=true", "label=a=b", "label=c"], Purpose::List);
        let filter = filter.expect("valid");
        assert_eq!(filter.dangling, Some(true));
        let labels = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        assert!(filter.labels_pass(&labels(&[("a", "b"), ("c", "")])));
        assert!(!filter.labels_pass(&labels(&[("a", "x"), ("c", "")])));
        for (filters, purpose, expected) in [
            (&["bogus=1"], Purpose::List, "invalid filter 'bogus'"),
            (
                &["dangling=x"],
                Purpose::List,
                "invalid filter 'dangling=x'",
            ),
            (&["label!=x"], Purpose::List, "invalid filter 'label!'"),
            (&["since=x"], Purpose::Prune, "invalid filter 'since'"),
            (
                &["dangling=true"],
                Purpose::PruneContainers,
                "invalid filter 'dangling'",
            ),
        ] {
            assert_eq!(parse(filters, purpose), Err(expected.to_owned()));
        }
    }
}
