//! What the mounts of a `RUN` show, as far as it decides what the step gives.

use std::collections::BTreeMap;

use dockerfile::CacheSharing;
use oci::{ChainId, DiffId};
use serde_json::{Value, json};

use super::Environment;
use super::files::Inputs;
use crate::SolveError;
use crate::vertex::{Files, FilesFrom, Mount, MountKind, RunStep};

/// The files that bind mounts show, by the index of their mount.
#[derive(Default)]
pub(crate) struct MountInputs(BTreeMap<usize, (Files, Inputs)>);

impl MountInputs {
    /// Finds what is shown of the context.
    pub(super) fn of_context(
        environment: &Environment<'_>,
        step: &RunStep,
    ) -> Result<Self, SolveError> {
        let mut inputs = Self::default();
        for (index, mount) in step.mounts.iter().enumerate() {
            if let MountKind::Bind { from, source } = &mount.kind
                && from.origin().is_none()
            {
                inputs.find(environment, index, (from, source), &[])?;
            }
        }
        Ok(inputs)
    }

    /// Finds what is shown of stages and images. Of all that one has, its identity tells enough.
    pub(super) fn add_layers(
        &mut self,
        environment: &Environment<'_>,
        step: &RunStep,
        sources: &[Vec<DiffId>],
    ) -> Result<(), SolveError> {
        for (index, mount, layers) in with_layers(step, sources) {
            if let Some((from, source)) = part_of_layers(mount) {
                self.find(environment, index, (from, source), layers)?;
            }
        }
        Ok(())
    }

    fn find(
        &mut self,
        environment: &Environment<'_>,
        index: usize,
        (from, source): (&FilesFrom, &str),
        layers: &[DiffId],
    ) -> Result<(), SolveError> {
        let files = files(from.clone(), source);
        let inputs = Inputs::find(environment, &files, layers)?;
        self.0.insert(index, (files, inputs));
        Ok(())
    }

    /// Takes out the files that the mount with this index shows of the context.
    pub(crate) fn take(&mut self, index: usize) -> Option<(Files, Inputs)> {
        self.0.remove(&index)
    }

    /// Returns what the key of the step has of each mount.
    pub(super) fn ingredients(&self, step: &RunStep, sources: &[Vec<DiffId>]) -> Vec<Value> {
        let ingredient = |(index, mount, layers): (usize, &Mount, &[DiffId])| {
            let chain = ChainId::of(layers).map(|chain| chain.to_string());
            let mut value = match &mount.kind {
                MountKind::Bind { source, .. } => match self.0.get(&index) {
                    Some((_, inputs)) => json!({ "type": "bind", "inputs": inputs.lines }),
                    None => json!({ "type": "bind", "from": chain, "source": source }),
                },
                MountKind::Cache(cache) => json!({
                    "type": "cache",
                    "id": cache.id,
                    "from": cache.from.as_ref().map(|_| chain),
                    "source": cache.source,
                    "sharing": match cache.sharing {
                        CacheSharing::Shared => "shared",
                        CacheSharing::Private => "private",
                        CacheSharing::Locked => "locked",
                    },
                    "owner": [cache.owner.mode, cache.owner.uid, cache.owner.gid],
                }),
                MountKind::Tmpfs { size } => json!({ "type": "tmpfs", "size": size }),
                MountKind::Secret { id, env, owner, .. } => json!({
                    "type": "secret",
                    "id": id,
                    "env": env,
                    "owner": [owner.mode, owner.uid, owner.gid],
                }),
                MountKind::Ssh { id, owner, .. } => json!({
                    "type": "ssh",
                    "id": id,
                    "owner": [owner.mode, owner.uid, owner.gid],
                }),
            };
            value["target"] = json!(mount.target);
            value["read_only"] = json!(mount.read_only);
            value
        };
        with_layers(step, sources).map(ingredient).collect()
    }
}

/// Tells whether a mount shows a part of a stage or an image.
pub(super) fn reads_layers(step: &RunStep) -> bool {
    step.mounts.iter().any(|it| part_of_layers(it).is_some())
}

/// Returns the path that a mount shows of a stage or an image, unless it is all of it.
fn part_of_layers(mount: &Mount) -> Option<(&FilesFrom, &str)> {
    match &mount.kind {
        MountKind::Bind { from, source } if from.origin().is_some() && source != "/" => {
            Some((from, source))
        }
        _ => None,
    }
}

/// Returns the mounts with their index, and the layers that each reads.
pub(crate) fn with_layers<'a>(
    step: &'a RunStep,
    sources: &'a [Vec<DiffId>],
) -> impl Iterator<Item = (usize, &'a Mount, &'a [DiffId])> {
    let mut sources = sources.iter();
    step.mounts.iter().enumerate().map(move |(index, mount)| {
        let layers = mount.origin().and_then(|_| sources.next());
        (index, mount, layers.map(Vec::as_slice).unwrap_or_default())
    })
}

/// Returns the copy that brings what a bind mount shows to the root of a layer.
pub(crate) fn files(from: FilesFrom, source: &str) -> Files {
    // What would match several names elsewhere is one name here.
    let mut literal = String::with_capacity(source.len());
    for character in source.chars() {
        if "*?[\\".contains(character) {
            literal.push('\\');
        }
        literal.push(character);
    }
    Files::to_root(from, literal)
}
