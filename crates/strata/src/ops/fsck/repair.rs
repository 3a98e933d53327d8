//! One finding after the other, put right.

use std::collections::HashSet;
use std::error::Error;
use std::io::Read;
use std::path::Path;

use layer::LayerDir;
use oci::{DiffId, Digest, MediaType};
use store::{
    BlobSource, Damage, Finding, Flaw, Mend, NewLayer, Renewed, Role, Scratch, Store, StoreError,
};

use super::fetch::fetch;
use super::{FsckError, Outcome, State, probes};
use crate::ops::layers::unpack;
use crate::ops::tidy;
use crate::{Engine, describe};

/// The repair of what one check found.
pub(super) struct Repair<'a> {
    engine: &'a Engine,
    store: &'a Store,
    /// Layers whose tar is not to be trusted.
    damaged_tars: HashSet<DiffId>,
}

/// What is to be done first: what others are derived from.
fn order(damage: &Damage) -> u8 {
    match damage {
        Damage::MissingDirectory | Damage::Permissions { .. } => 0,
        Damage::Blob {
            role: Role::Manifest | Role::Config | Role::Log | Role::Part,
            ..
        } => 1,
        Damage::Tar { .. } => 2,
        Damage::Blob {
            role: Role::Layer(_),
            ..
        } => 3,
        Damage::Index { .. } => 4,
        Damage::Tree { .. } => 5,
        Damage::Format
        | Damage::Database { .. }
        | Damage::Pages { .. }
        | Damage::Log { .. }
        | Damage::Copy
        | Damage::Container { .. }
        | Damage::LostContainer { .. }
        | Damage::Record { .. } => 6,
    }
}

impl<'a> Repair<'a> {
    pub(super) fn new(engine: &'a Engine, findings: &[Finding]) -> Self {
        let damaged_tars = findings.iter().filter_map(|finding| match &finding.damage {
            Damage::Tar { layer, .. } => Some(*layer),
            _ => None,
        });
        Self {
            engine,
            store: engine.store(),
            damaged_tars: damaged_tars.collect(),
        }
    }

    pub(super) fn run(mut self, mut findings: Vec<Finding>) -> Result<Vec<Outcome>, FsckError> {
        findings.sort_by_key(|finding| order(&finding.damage));
        let mut outcomes = Vec::new();
        for finding in findings {
            let state = self.repair(&finding)?;
            outcomes.push(Outcome { finding, state });
        }
        self.mend(&mut outcomes)?;
        Ok(outcomes)
    }

    fn repair(&mut self, finding: &Finding) -> Result<State, FsckError> {
        match &finding.damage {
            Damage::MissingDirectory | Damage::Permissions { .. } => {
                self.store.renew_directory(&finding.path)?;
                Ok(repaired("made as it has to be"))
            }
            Damage::Blob { digest, role, flaw } => {
                let state = self.blob(digest, *role, flaw, &finding.path)?;
                self.forget_unneeded(finding, state)
            }
            Damage::Tar { layer, flaw } => {
                let state = self.tar(layer, flaw, &finding.path)?;
                self.forget_unneeded(finding, state)
            }
            Damage::Index { layer, .. } => self.index(layer),
            Damage::Tree { layer, .. } => self.tree(layer),
            Damage::Container { .. } => Ok(left("what was written in it has no other copy")),
            Damage::Record {
                mend: Some(mend), ..
            } if mend.lost_name().is_some() => {
                Ok(left("its image is lost, so the name was removed"))
            }
            Damage::Record { mend: Some(_), .. } => Ok(repaired("record made right")),
            Damage::Record { mend: None, .. } => Ok(left("nothing tells what it was")),
            Damage::Format
            | Damage::Database { .. }
            | Damage::Pages { .. }
            | Damage::Log { .. }
            | Damage::Copy
            | Damage::LostContainer { .. } => Ok(State::Found),
        }
    }

    /// Makes all rows right at once.
    fn mend(&self, outcomes: &mut [Outcome]) -> Result<(), FsckError> {
        let mends: Vec<&Mend> = outcomes
            .iter()
            .filter_map(|outcome| match &outcome.finding.damage {
                Damage::Record { mend, .. } => mend.as_ref(),
                _ => None,
            })
            .collect();
        Ok(self.store.mend(&mends)?)
    }

    /// Forgets what is lost and what no image, tag or container needs.
    fn forget_unneeded(&self, finding: &Finding, state: State) -> Result<State, FsckError> {
        if !matches!(state, State::Left { .. }) || !finding.needed_by.is_nobody() {
            return Ok(state);
        }
        match &finding.damage {
            Damage::Blob { digest, .. } => self.store.forget_blob(digest)?,
            Damage::Tar { layer, .. } => self.store.forget_layer(layer)?,
            _ => return Ok(state),
        }
        Ok(repaired(match finding.needed_by.is_held {
            true => "forgotten: only an undo would have needed it",
            false => "forgotten: nothing needs it",
        }))
    }

    fn blob(
        &mut self,
        digest: &Digest,
        role: Role,
        flaw: &Flaw,
        path: &Path,
    ) -> Result<State, FsckError> {
        let source = self.store.blob_source(digest)?;
        let descriptor = source.as_ref().map(|source| &source.descriptor);
        let unknown = MediaType::from("application/octet-stream");
        let media_type = descriptor.map_or(&unknown, |descriptor| &descriptor.media_type);
        if *flaw != Flaw::Content && self.store.record_sound_blob(digest, media_type)? {
            return Ok(renewed(&Renewed::Recorded));
        }
        if let Role::Layer(layer) = role
            && self.has_sound_tar(&layer)?
        {
            self.store.drop_blob(digest)?;
            return Ok(renewed(&Renewed::Dropped));
        }
        let mut why = "nothing tells what it was".to_owned();
        if let Some(source) = &source {
            match self.fetch_blob(source) {
                Ok(renewal) => return Ok(renewed(&renewal)),
                Err(failure) => why = failure,
            }
        }
        let kept = self.store.set_aside(path)?;
        if role == Role::Manifest {
            self.store.forget_document(digest)?;
        }
        Ok(left(&with_kept(why, kept.as_deref())))
    }

    fn fetch_blob(&self, source: &BlobSource) -> Result<Renewed, String> {
        let descriptor = &source.descriptor;
        let take = |reader: &mut (dyn Read + Send)| self.store.renew_blob(descriptor, reader);
        fetch(self.engine, source, take).map(Renewed::Fetched)
    }

    /// Tells whether a layer's tar is right, by reading it.
    fn has_sound_tar(&mut self, layer: &DiffId) -> Result<bool, FsckError> {
        if self.damaged_tars.contains(layer) || !self.store.has_layer(layer)? {
            return Ok(false);
        }
        let scratch = self.store.scratch()?;
        let found = probes::layer(&self.store.layer_dir(layer), scratch.path(), &|_| {});
        Ok(found.is_ok_and(|found| found.diff_id == Some(*layer)))
    }

    fn tar(&mut self, layer: &DiffId, flaw: &Flaw, path: &Path) -> Result<State, FsckError> {
        if *flaw != Flaw::Content && self.record_sound_tar(layer)? {
            self.damaged_tars.remove(layer);
            return Ok(renewed(&Renewed::Recorded));
        }
        let mut why = "no registry is known to have it".to_owned();
        for source in self.store.layer_sources(layer)? {
            match self.layer_from(layer, &source) {
                Ok(renewal) => {
                    self.damaged_tars.remove(layer);
                    self.renew_forms(layer)?;
                    return Ok(renewed(&renewal));
                }
                Err(failure) => why = failure,
            }
        }
        let kept = self.store.set_aside(path)?;
        Ok(left(&with_kept(why, kept.as_deref())))
    }

    /// Records a layer again whose files are right.
    fn record_sound_tar(&self, layer: &DiffId) -> Result<bool, FsckError> {
        let directory = self.store.layer_dir(layer);
        let scratch = self.store.scratch()?;
        let Ok(found) = probes::layer(&directory, scratch.path(), &|_| {}) else {
            return Ok(false);
        };
        if found.diff_id != Some(*layer) {
            return Ok(false);
        }
        if !found.index_is_right {
            let new = LayerDir::new(scratch.path()).index();
            self.store.renew_index(layer, &new)?;
        }
        let size = std::fs::metadata(directory.join("tar"))?.len();
        self.store.record_layer(&NewLayer {
            diff_id: *layer,
            tar_size: size,
            content_size: found.content_size,
            entries: found.entries,
        })?;
        Ok(true)
    }

    /// Unpacks a layer from one of its forms.
    fn layer_from(&self, layer: &DiffId, source: &BlobSource) -> Result<Renewed, String> {
        let digest = source.descriptor.digest;
        let is_tar = digest == *layer.digest();
        if is_tar {
            let take = |reader: &mut (dyn Read + Send)| self.unpack(layer, reader);
            return fetch(self.engine, source, take).map(Renewed::Fetched);
        }
        let from_blob = || -> Result<(), String> {
            let blob = self
                .store
                .open_blob(&digest)
                .map_err(|error| describe(&error))?;
            let mut blob = blob.ok_or_else(|| "its compressed form is not here".to_owned())?;
            self.unpack(layer, &mut blob)
                .map_err(|error| describe(&error))
        };
        if from_blob().is_ok() {
            return Ok(Renewed::Derived("its compressed form"));
        }
        let fetched = self.fetch_blob(source)?;
        from_blob().map(|()| fetched)
    }

    fn unpack(&self, layer: &DiffId, blob: &mut (dyn Read + Send)) -> Result<(), UnpackError> {
        let scratch = self.store.scratch()?;
        let unpacked = unpack(blob, scratch.path()).map_err(UnpackError::Unpack)?;
        if unpacked.diff_id != *layer {
            return Err(UnpackError::Unpack(probes::changed().into()));
        }
        Ok(self.store.renew_layer(&scratch, &unpacked)?)
    }

    fn index(&mut self, layer: &DiffId) -> Result<State, FsckError> {
        if self.damaged_tars.contains(layer) {
            return Ok(left("the tar that it is made of is damaged"));
        }
        let scratch = self.store.scratch()?;
        let directory = self.store.layer_dir(layer);
        let found = match probes::layer(&directory, scratch.path(), &|_| {}) {
            Ok(found) if found.diff_id == Some(*layer) => found,
            Ok(_) => return Ok(left("the tar that it is made of is damaged")),
            Err(error) => return Ok(left(&describe(&*error))),
        };
        if !found.index_is_right {
            self.take_index(layer, &scratch)?;
        }
        self.renew_forms(layer)?;
        Ok(renewed(&Renewed::Derived("its tar")))
    }

    fn take_index(&self, layer: &DiffId, scratch: &Scratch) -> Result<(), StoreError> {
        let new = LayerDir::new(scratch.path()).index();
        self.store.renew_index(layer, &new)
    }

    /// Has whatever was made of a layer's tar and index made again where it has to be. Containers
    /// that run keep what they have mounted.
    fn renew_forms(&self, layer: &DiffId) -> Result<(), FsckError> {
        let directory = LayerDir::new(self.store.layer_dir(layer));
        if directory.tree().try_exists()? && probes::tree(&directory).is_some() {
            self.store.retire_tree(layer)?;
        }
        tidy::unmount(&self.store.layer_mounts_dir(), std::slice::from_ref(layer));
        Ok(())
    }

    fn tree(&self, layer: &DiffId) -> Result<State, FsckError> {
        if self.damaged_tars.contains(layer) {
            return Ok(left("the tar that it is made of is damaged"));
        }
        self.store.retire_tree(layer)?;
        let directory = LayerDir::new(self.store.layer_dir(layer));
        tidy::unmount(&self.store.layer_mounts_dir(), std::slice::from_ref(layer));
        Ok(match layer::tree::unpack(&directory) {
            Ok(()) => renewed(&Renewed::Derived("its tar and index")),
            Err(error) => left(&describe(&error)),
        })
    }
}

/// Why a form of a layer did not give the layer.
#[derive(Debug, thiserror::Error)]
enum UnpackError {
    /// It is not what it has to be.
    #[error("cannot unpack it")]
    Unpack(#[source] Box<dyn Error + Send + Sync>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn repaired(how: &str) -> State {
    State::Repaired {
        how: how.to_owned(),
    }
}

fn with_kept(why: String, kept: Option<&Path>) -> String {
    match kept {
        Some(kept) => format!("{why}; the damaged file is kept as `{}`", kept.display()),
        None => why,
    }
}

fn left(why: &str) -> State {
    State::Left {
        why: why.to_owned(),
    }
}

fn renewed(renewal: &Renewed) -> State {
    State::Repaired {
        how: match renewal {
            Renewed::Recorded => "the file is right and was recorded again".to_owned(),
            Renewed::Fetched(from) => format!("fetched from {from}"),
            Renewed::Derived(from) => format!("made again from {from}"),
            Renewed::Dropped => {
                "dropped: its layer is here, and is compressed again when it is pushed".to_owned()
            }
        },
    }
}
