//! `--filter` of `ps`.

use store::Store;

use crate::container::Container;
use crate::container::status::Status;
use crate::container::variables::label;

/// Which containers are listed: those that every kind of filter given lets through. Filters of one
/// kind are alternatives, except labels, which must all be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    conditions: Vec<(Kind, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Name,
    Status,
    Exited,
    Ancestor,
    Label,
}

/// There is no such filter. `Display` is docker's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter '{0}'")]
pub struct UnknownFilter(String);

impl Kind {
    const ALTERNATIVES: [Self; 5] = [
        Self::Id,
        Self::Name,
        Self::Status,
        Self::Exited,
        Self::Ancestor,
    ];

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "name" => Self::Name,
            "status" => Self::Status,
            "exited" => Self::Exited,
            "ancestor" => Self::Ancestor,
            "label" => Self::Label,
            _ => return None,
        })
    }
}

impl ContainerFilter {
    /// Reads filters of the form `name=value`.
    pub fn parse<'a>(filters: impl Iterator<Item = &'a str>) -> Result<Self, UnknownFilter> {
        let mut conditions = Vec::new();
        for filter in filters {
            let (name, value) = filter.split_once('=').unwrap_or((filter, ""));
            let name = name.trim().to_lowercase();
            match Kind::parse(&name) {
                Some(kind) => conditions.push((kind, value.trim().to_owned())),
                None => return Err(UnknownFilter(name)),
            }
        }
        Ok(Self { conditions })
    }

    /// Tells whether it speaks of what containers do: then those that do not run are listed too.
    pub fn concerns_state(&self) -> bool {
        let kinds = self.conditions.iter().map(|(kind, _)| kind);
        kinds
            .into_iter()
            .any(|kind| matches!(kind, Kind::Status | Kind::Exited))
    }

    /// Tells whether a container, which does `status` now, passes.
    pub fn passes(&self, store: &Store, container: &Container, status: Status) -> bool {
        let of = |kind| {
            let conditions = self.conditions.iter();
            conditions.filter(move |(other, _)| *other == kind)
        };
        let alternatives = Kind::ALTERNATIVES.into_iter().all(|kind| {
            of(kind).next().is_none()
                || of(kind).any(|(_, value)| matches(kind, value, store, container, status))
        });
        let labels = &container.options.config.labels;
        alternatives
            && of(Kind::Label).all(|(_, value)| match value.contains('=') {
                true => {
                    let (key, value) = label(value);
                    labels.get(&key) == Some(&value)
                }
                false => labels.contains_key(value),
            })
    }
}

fn matches(kind: Kind, value: &str, store: &Store, container: &Container, status: Status) -> bool {
    let record = &container.record;
    match kind {
        Kind::Id => record.id.starts_with(value),
        Kind::Name => record.name.contains(value.trim_start_matches(['/', '^'])),
        Kind::Status => status.name() == value,
        Kind::Exited => {
            matches!(status, Status::Exited { .. }) && status.code().to_string() == value
        }
        Kind::Ancestor => store
            .resolve(value)
            .is_ok_and(|image| image.id == record.image),
        Kind::Label => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_filters_are_refused_and_states_recognised() {
        let parse = |filter: &'static str| ContainerFilter::parse([filter].into_iter());
        assert_eq!(
            parse("bogus=1").map_err(|error| error.to_string()),
            Err("invalid filter 'bogus'".to_owned())
        );
        assert!(parse("Status=exited").expect("valid").concerns_state());
        assert!(!parse("name=web").expect("valid").concerns_state());
    }
}
