//! Fills a store with many small images: `synthetic_store ROOT RUN IMAGES LAYERS`.
//!
//! Each image has one layer that all share, and LAYERS - 1 of its own, with one small file each; every
//! fourth has no name. For `cargo xtask bench --scale`.

use std::error::Error;
use std::path::Path;

use layer::{Entry, EntryKind, LayerWriter};
use oci::{DiffId, ImageConfig, Platform, Reference};
use store::{NewImage, NewLayer, Store};

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, run, images, layers] = arguments.as_slice() else {
        return Err("usage: synthetic_store ROOT RUN IMAGES LAYERS".into());
    };
    let store = Store::open(Path::new(root), Path::new(run))?.unrecorded();
    let (images, layers): (usize, usize) = (images.parse()?, layers.parse()?);
    // No sweep comes before the images that need the layers.
    let lock = store.lock_shared()?;
    let shared = write_layer(&store, "shared")?;
    for image in 0..images {
        let mut config = ImageConfig {
            created: Some("2026-01-02T03:04:05Z".to_owned()),
            comment: format!("image {image}"),
            ..ImageConfig::scratch(&Platform::host())
        };
        config.rootfs.diff_ids.push(shared);
        for number in 1..layers {
            let layer = write_layer(&store, &format!("{image}-{number}"))?;
            config.rootfs.diff_ids.push(layer);
        }
        let names = match image % 4 {
            0 => Vec::new(),
            _ => vec![Reference::parse(&format!(
                "synthetic/app{}:{image}",
                image % 100
            ))?],
        };
        let new = NewImage {
            config: &config.to_bytes(),
            manifest: None,
            parent: None,
            times: &[],
        };
        store.put_named_image(&new, &names)?;
    }
    drop(lock);
    store.mark_synced()?;
    Ok(())
}

fn write_layer(store: &Store, text: &str) -> Result<DiffId, Failure> {
    let scratch = store.scratch()?;
    let mut writer = LayerWriter::create(scratch.path())?;
    let file = Entry {
        path: b"file".to_vec(),
        kind: EntryKind::File {
            size: u64::try_from(text.len())?,
        },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: layer::Timestamp::default(),
        xattrs: std::collections::BTreeMap::new(),
    };
    writer.append(&file, &mut text.as_bytes())?;
    let written = writer.finish()?;
    let layer = NewLayer {
        diff_id: written.diff_id,
        tar_size: written.tar_size,
        content_size: written.content_size,
        entries: written.entries,
    };
    store.commit_layer(scratch, &layer)?;
    Ok(layer.diff_id)
}
