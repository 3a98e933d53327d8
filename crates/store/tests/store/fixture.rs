//! A store in a temporary directory, and small things to put into it.

use std::io::Read;
use std::path::{Path, PathBuf};

use oci::{DiffId, Digest, ImageConfig, ImageId};
use store::{NewImage, NewLayer, Store, StoreOptions};

pub(crate) struct Fixture {
    path: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        Self {
            path: directory.path().to_owned(),
            _directory: Some(directory),
        }
    }

    /// Takes the directory of another process's fixture.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self {
            path,
            _directory: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.path().join("run")
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(&self.root(), &self.run()).expect("opened")
    }

    pub(crate) fn open_in_boot(&self, boot_id: &str) -> Store {
        let options = StoreOptions {
            boot_id: Some(boot_id.to_owned()),
            ..StoreOptions::default()
        };
        Store::open_with(&self.root(), &self.run(), &options).expect("opened")
    }

    pub(crate) fn boot_id(&self) -> String {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
        text.trim().to_owned()
    }

    /// Stores a layer whose tar is `tar`.
    pub(crate) fn layer(&self, store: &Store, tar: &[u8]) -> DiffId {
        let scratch = store.scratch().expect("scratch");
        let layer = write_layer(&mut &tar[..], scratch.path()).expect("written");
        store.commit_layer(scratch, &layer).expect("committed");
        layer.diff_id
    }

    /// Stores an image of two layers: one that all images of this kind share, one of its own.
    pub(crate) fn image(&self, store: &Store, text: &str) -> ImageId {
        let layers = [
            self.layer(store, b"shared"),
            self.layer(store, text.as_bytes()),
        ];
        let config = config_with(&layers, text);
        let image = NewImage {
            config: &config,
            manifest: None,
            parent: None,
            times: &[],
        };
        store.put_image(&image).expect("stored")
    }
}

/// Writes the stream as a layer's tar, as `layer::ingest` does but without looking inside.
pub(crate) fn write_layer(
    stream: &mut dyn Read,
    directory: &Path,
) -> Result<NewLayer, Box<dyn std::error::Error + Send + Sync>> {
    let mut tar = Vec::new();
    stream.read_to_end(&mut tar)?;
    std::fs::write(directory.join("tar"), &tar)?;
    std::fs::write(directory.join("index.erofs"), b"index")?;
    let size = u64::try_from(tar.len())?;
    Ok(NewLayer {
        diff_id: DiffId(Digest::of(&tar)),
        tar_size: size,
        content_size: size,
        entries: 1,
    })
}

pub(crate) fn config_with(layers: &[DiffId], comment: &str) -> Vec<u8> {
    let mut config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        created: Some("2026-01-02T03:04:05Z".to_owned()),
        comment: comment.to_owned(),
        ..ImageConfig::default()
    };
    config
        .config
        .labels
        .insert("text".to_owned(), comment.to_owned());
    config.rootfs.diff_ids = layers.to_vec();
    config.to_bytes()
}
