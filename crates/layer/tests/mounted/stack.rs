//! Layers in a temporary store, and mounts of them.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use layer::rootfs::{self, RootfsOptions};
use layer::{Form, Ingested, LayerDir, LayerWriter, Limits, RootfsError, ingest};
use sys::Mount;

use crate::tarball::{Member, tar};

pub(crate) const FORMS: [Form; 2] = [Form::Erofs, Form::Tree];

/// A store of layers, bottom first. Its shared mounts go with it.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) layers: Vec<LayerDir>,
}

/// A mount that can be looked at by path, although it is attached nowhere.
#[derive(Debug)]
pub(crate) struct Mounted {
    mount: Mount,
}

impl Mounted {
    pub(crate) fn path(&self) -> PathBuf {
        // The trailing part makes every call resolve the link before it looks at the file.
        PathBuf::from(format!(
            "/proc/self/fd/{}/.",
            self.mount.as_fd().as_raw_fd()
        ))
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.join(path)).ok()
    }
}

impl From<Mount> for Mounted {
    fn from(mount: Mount) -> Self {
        Self { mount }
    }
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            layers: Vec::new(),
        }
    }

    pub(crate) fn of(layers: &[&[Member]]) -> Self {
        let mut stack = Self::new();
        for members in layers {
            stack.push(members);
        }
        stack
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn mounts(&self) -> PathBuf {
        self.path().join("run")
    }

    fn commit(&mut self, scratch: &Path, ingested: &Ingested) -> LayerDir {
        let path = self
            .path()
            .join("layers")
            .join(ingested.diff_id.digest().hex());
        if !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::rename(scratch, &path).unwrap();
        }
        let layer = LayerDir::new(path);
        self.layers.push(layer.clone());
        layer
    }

    fn scratch(&self) -> PathBuf {
        let scratch = self.path().join(format!("scratch{}", self.layers.len()));
        fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    pub(crate) fn try_push(&mut self, members: &[Member]) -> Result<LayerDir, layer::IngestError> {
        let scratch = self.scratch();
        let ingested = ingest(&mut &tar(members)[..], &scratch, &Limits::default())?;
        Ok(self.commit(&scratch, &ingested))
    }

    pub(crate) fn push(&mut self, members: &[Member]) -> LayerDir {
        self.try_push(members).unwrap()
    }

    pub(crate) fn push_written(&mut self, write: impl FnOnce(&mut LayerWriter)) -> LayerDir {
        let scratch = self.scratch();
        let mut writer = LayerWriter::create(&scratch).unwrap();
        write(&mut writer);
        let ingested = writer.finish().unwrap();
        self.commit(&scratch, &ingested)
    }

    pub(crate) fn try_mount(
        &self,
        form: Form,
        upper: Option<&str>,
    ) -> Result<Mounted, RootfsError> {
        let upper = upper.map(|name| self.path().join(name));
        if let Some(upper) = &upper {
            fs::create_dir_all(upper).unwrap();
        }
        let mount = rootfs::mount(&RootfsOptions {
            layers: &self.layers,
            upper: upper.as_deref(),
            volatile: false,
            mounts: &self.mounts(),
            form,
        })?;
        Ok(mount.into())
    }

    pub(crate) fn mount(&self, form: Form) -> Mounted {
        self.try_mount(form, None).unwrap()
    }

    /// Mounts with a writable directory in `name`.
    pub(crate) fn mount_writable(&self, form: Form, name: &str) -> Mounted {
        self.try_mount(form, Some(name)).unwrap()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(rootfs::unmount_all(&self.mounts()));
    }
}
