//! How an image came about.

use std::collections::BTreeMap;

use oci::{ImageConfig, ImageId};
use store::{ImageRecord, Store, StoreError, Timestamp};

/// One step of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The image that ended with this step, when it is known here.
    pub id: Option<ImageId>,
    /// When.
    pub created: Option<Timestamp>,
    /// The instruction or command.
    pub created_by: String,
    /// What the step added, in bytes.
    pub size: u64,
    /// A message.
    pub comment: String,
}

/// Returns the steps of `image`, the last first.
pub fn history(store: &Store, image: &ImageRecord) -> Result<Vec<HistoryRow>, StoreError> {
    let config = store.image_config(&image.id)?;
    let ids = known_ids(store, image, &config)?;
    let times = store.image_times(&image.id)?;
    let said = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse);
    let mut layers = config.rootfs.diff_ids.iter();
    let mut rows = Vec::with_capacity(config.history.len());
    for (index, step) in config.history.iter().enumerate() {
        let layer = match step.empty_layer {
            true => None,
            false => layers.next(),
        };
        let size = match layer {
            Some(layer) => store.layer(layer)?.map_or(0, |layer| layer.content_size),
            None => 0,
        };
        rows.push(HistoryRow {
            id: ids.get(&(index + 1)).copied(),
            created: times.get(index).copied().flatten().or(said(&step.created)),
            created_by: step.created_by.clone(),
            size,
            comment: step.comment.clone(),
        });
    }
    // An image without a history still has layers.
    for layer in layers {
        rows.push(HistoryRow {
            id: None,
            created: said(&config.created),
            created_by: String::new(),
            size: store.layer(layer)?.map_or(0, |layer| layer.content_size),
            comment: String::new(),
        });
    }
    rows.reverse();
    if let Some(first) = rows.first_mut() {
        first.id = Some(image.id);
    }
    Ok(rows)
}

/// Returns the images that this one was made from and that are still here, by the length of
/// their histories.
fn known_ids(
    store: &Store,
    image: &ImageRecord,
    config: &ImageConfig,
) -> Result<BTreeMap<usize, ImageId>, StoreError> {
    let mut ids = BTreeMap::from([(config.history.len(), image.id)]);
    let mut parent = image.parent;
    while let Some(id) = parent {
        let Ok(record) = store.resolve(&id.to_string()) else {
            break;
        };
        let length = store.image_config(&id)?.history.len();
        if ids.insert(length, id).is_some() {
            break;
        }
        parent = record.parent;
    }
    Ok(ids)
}
