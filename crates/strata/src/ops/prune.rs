//! Which containers a prune may remove.

use store::{ContainerRecord, ContainerState, Store, StoreError, Timestamp};

use super::image_filter::ImageFilter;
use crate::container::status::Status;
use crate::container::{Container, FindError};

/// Why containers cannot be told apart.
#[derive(Debug, thiserror::Error)]
pub enum StoppedError {
    /// A container's record cannot be read.
    #[error(transparent)]
    Container(#[from] FindError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns the containers that do not run, that `filter` lets through, and that have done nothing
/// since `unused_since`.
pub fn stopped(
    store: &Store,
    filter: &ImageFilter,
    unused_since: Option<Timestamp>,
) -> Result<Vec<ContainerRecord>, StoppedError> {
    let until = filter.until.map(Timestamp::from);
    let has_labels = !filter.labels.is_empty() || !filter.without_labels.is_empty();
    let mut stopped = Vec::new();
    for record in store.containers()? {
        let passes = !is_running(store, &record)
            && until.is_none_or(|until| record.created < until)
            && unused_since.is_none_or(|since| last_active(&record) < since);
        if !passes {
            continue;
        }
        if has_labels {
            let container = Container::from_record(record.clone())?;
            let labels = container.options.config.labels.into_iter().collect();
            if !filter.labels_pass(&labels) {
                continue;
            }
        }
        stopped.push(record);
    }
    Ok(stopped)
}

/// Tells whether a container runs.
pub fn is_running(store: &Store, record: &ContainerRecord) -> bool {
    matches!(Status::of(store, record), Status::Running { .. })
}

/// Returns when a container last did something, as far as that is known.
fn last_active(record: &ContainerRecord) -> Timestamp {
    match &record.state {
        ContainerState::Created => record.created,
        ContainerState::Running { started, .. } => *started,
        ContainerState::Exited { finished, .. } => *finished,
    }
}
