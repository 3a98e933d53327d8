//! What the mounts of a `RUN` show, made ready for its container.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use dockerfile::{CacheSharing, Ownership};
use layer::{LayerDir, LayerWriter, RootfsOptions};
use oci::{ChainId, DiffId, Digest};
use runtime::{Access, BindMount, BindSource, MemoryFile};
use serde_json::json;
use store::{CacheHold, CacheMount};

use super::RunError;
use super::agent::Agent;
use crate::solve::{Environment, Inputs, MountInputs, Stacks, files, with_layers};
use crate::vertex::{Cache, FilesFrom, Mount, MountKind, RunStep};
use crate::{Secret, SolveError};

/// The mode of a secret's file.
const SECRET_MODE: u32 = 0o400;
/// The mode of an agent's socket.
const SOCKET_MODE: u32 = 0o600;
/// The mode of a new cache.
const CACHE_MODE: u32 = 0o755;
/// The variable that names an agent's socket.
const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";

/// What a step sees beside its layers, as long as this is not dropped.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) binds: Vec<BindMount>,
    /// Variables that are secrets; they come last.
    pub(super) secrets: Vec<String>,
    /// Variables that the step gets unless it has them.
    pub(super) defaults: Vec<String>,
    caches: BTreeMap<Digest, CacheMount>,
    agents: Vec<Agent>,
}

/// Makes the mounts of a step ready. What belongs to them is in `scratch`.
pub(super) fn prepare(
    environment: &Environment<'_>,
    step: &RunStep,
    (stacks, inputs): (&Stacks, MountInputs),
    scratch: &Path,
) -> Result<Mounts, SolveError> {
    let mut preparation = Preparation {
        environment,
        scratch,
        inputs,
        mounts: Mounts::default(),
    };
    preparation.take_caches(step, stacks)?;
    for (index, mount, layers) in with_layers(step, &stacks.sources) {
        preparation.add(index, mount, layers)?;
    }
    Ok(preparation.mounts)
}

struct Preparation<'a> {
    environment: &'a Environment<'a>,
    scratch: &'a Path,
    inputs: MountInputs,
    mounts: Mounts,
}

impl Preparation<'_> {
    fn add(&mut self, index: usize, mount: &Mount, layers: &[DiffId]) -> Result<(), SolveError> {
        let (source, inside) = match &mount.kind {
            MountKind::Bind { from, source } => {
                let directory = self.directory(&format!("bind-{index}"))?;
                match from {
                    FilesFrom::Context(_) => self.context(index, mount, &directory)?,
                    FilesFrom::Origin(_) => {
                        (self.layers(mount, layers, &directory)?, source.clone())
                    }
                }
            }
            MountKind::Cache(cache) => {
                let held = &self.mounts.caches[&cache_key(cache, layers)];
                (BindSource::Host(held.data()), cache.source.clone())
            }
            MountKind::Tmpfs { size } => (BindSource::Memory(*size), String::new()),
            MountKind::Secret {
                id,
                env,
                required,
                owner,
            } => {
                let secrets = &self.environment.options.secrets;
                match secrets.get(id) {
                    Some(secret) => {
                        return self.secret(mount, secret, (id, env.as_deref(), *owner));
                    }
                    None if *required => return Err(RunError::NoSecret(id.clone()).into()),
                    None => return Ok(()),
                }
            }
            MountKind::Ssh {
                id,
                required,
                owner,
            } => {
                let target = mount.target.clone().unwrap_or_default();
                self.mounts
                    .defaults
                    .push(format!("{SSH_AUTH_SOCK}={target}"));
                let Some(agent) = self.environment.options.agents.get(id) else {
                    return match required {
                        true => Err(RunError::NoAgent(id.clone()).into()),
                        false => Ok(()),
                    };
                };
                let socket = self.scratch.join(format!("agent-{index}"));
                let started = Agent::start(&socket, agent)
                    .and_then(|started| own(&socket, *owner, SOCKET_MODE).map(|()| started))
                    .map_err(RunError::Prepare)?;
                self.mounts.agents.push(started);
                (BindSource::Host(socket), String::new())
            }
        };
        self.show(mount, source, inside);
        Ok(())
    }

    fn show(&mut self, mount: &Mount, source: BindSource, inside: String) {
        let Some(target) = mount.target.clone() else {
            return;
        };
        self.mounts.binds.push(BindMount {
            source,
            inside,
            target,
            access: match mount.read_only {
                true => Access::ReadOnly,
                false => Access::ReadWrite,
            },
        });
    }

    fn directory(&self, name: &str) -> Result<PathBuf, RunError> {
        let path = self.scratch.join(name);
        fs::create_dir(&path).map_err(RunError::Prepare)?;
        Ok(path)
    }

    /// Makes a layer of what a mount shows of the context: the files belong to root, as in
    /// BuildKit, and what `.dockerignore` leaves out is not there.
    fn context(
        &mut self,
        index: usize,
        mount: &Mount,
        directory: &Path,
    ) -> Result<(BindSource, String), SolveError> {
        let (files, inputs) = self
            .inputs
            .take(index)
            .expect("invariant: what a mount shows of the context is found before its step");
        let inside = inputs.single_file().unwrap_or_default();
        let layer = LayerDir::new(self.directory(&format!("context-{index}"))?);
        let mut writer = LayerWriter::create(layer.path())?;
        inputs.write(self.environment, &files, &[], (None, &mut writer))?;
        writer.finish()?;
        let form = self.environment.build.form;
        let mut shown = layer::rootfs::mount_alone(&layer, form).map_err(RunError::from)?;
        if !mount.read_only {
            shown = layer::rootfs::over(&shown, directory).map_err(RunError::from)?;
        }
        Ok((BindSource::Mount(shown), inside))
    }

    /// Mounts layers, with `directory` for what is written.
    fn layers(
        &self,
        mount: &Mount,
        layers: &[DiffId],
        directory: &Path,
    ) -> Result<BindSource, RunError> {
        let layers = self.environment.layer_dirs(layers);
        let mounted = layer::rootfs::mount(&RootfsOptions {
            layers: &layers,
            upper: (!mount.read_only).then_some(directory),
            volatile: !mount.read_only,
            mounts: &self.environment.build.store.layer_mounts_dir(),
            form: self.environment.build.form,
        })?;
        Ok(BindSource::Mount(mounted))
    }

    fn secret(
        &mut self,
        mount: &Mount,
        secret: &Secret,
        (id, env, owner): (&str, Option<&str>, Ownership),
    ) -> Result<(), SolveError> {
        if let Some(name) = env {
            let text = std::str::from_utf8(secret.content()).ok();
            let text = text.filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| RunError::SecretIsNoText(id.to_owned()))?;
            self.mounts.secrets.push(format!("{name}={text}"));
        }
        let file = MemoryFile {
            content: secret.content().to_vec(),
            mode: owner.mode.unwrap_or(SECRET_MODE),
            owner: (owner.uid.unwrap_or(0), owner.gid.unwrap_or(0)),
        };
        self.show(mount, BindSource::MemoryFile(file), String::new());
        Ok(())
    }

    /// Waits for the caches of a step. All steps take them in the same order, and each once, so
    /// that none waits for itself or in a circle.
    fn take_caches(&mut self, step: &RunStep, stacks: &Stacks) -> Result<(), SolveError> {
        let mut wanted = BTreeMap::new();
        for (_, mount, layers) in with_layers(step, &stacks.sources) {
            if let MountKind::Cache(cache) = &mount.kind {
                let hold = match cache.sharing {
                    CacheSharing::Shared => CacheHold::Shared,
                    CacheSharing::Locked => CacheHold::Locked,
                    CacheSharing::Private => CacheHold::Private,
                };
                let entry = wanted
                    .entry(cache_key(cache, layers))
                    .or_insert((mount, cache, layers, hold));
                if entry.3 == CacheHold::Shared {
                    entry.3 = hold;
                }
            }
        }
        for (key, (mount, cache, layers, hold)) in wanted {
            let target = mount.target.as_deref().unwrap_or_default();
            let command = step.args.join(" ");
            let description = format!("cached mount {target} from exec {command}");
            let store = self.environment.build.store;
            let held = loop {
                if let Some(held) = store.try_cache(&key, &description, hold)? {
                    break held;
                }
                self.wait_for_cache(key, hold)?;
            };
            if held.is_new()? {
                let name = format!("cache-{}", self.mounts.caches.len());
                let made = self.fill(&name, cache, layers)?;
                held.install(&made)?;
            }
            self.mounts.caches.insert(key, held);
        }
        Ok(())
    }

    /// Waits until a cache can be had, or the build ends.
    fn wait_for_cache(&self, key: Digest, hold: CacheHold) -> Result<(), SolveError> {
        let store = self.environment.build.store.clone();
        let wait = move || store.wait_for_cache(&key, hold);
        self.environment.wait_for(wait)
    }

    /// Makes the directory that a new cache starts as.
    fn fill(&self, name: &str, cache: &Cache, layers: &[DiffId]) -> Result<PathBuf, SolveError> {
        let directory = self.directory(name)?;
        let made = match &cache.from {
            Some(origin) => {
                let files = files(FilesFrom::Origin(origin.clone()), "/");
                let layer = LayerDir::new(&directory);
                let mut writer = LayerWriter::create(layer.path())?;
                let inputs = Inputs::find(self.environment, &files, layers)?;
                inputs.write(self.environment, &files, &[], (None, &mut writer))?;
                writer.finish()?;
                layer::tree::unpack(&layer)
                    .map_err(layer::RootfsError::from)
                    .map_err(RunError::from)?;
                layer.tree()
            }
            None => {
                let made = directory.join("made");
                let shown = made.join(cache.source.trim_start_matches('/'));
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(CACHE_MODE)
                    .create(shown)
                    .map_err(RunError::Prepare)?;
                made
            }
        };
        own(&made, cache.owner, CACHE_MODE).map_err(RunError::Prepare)?;
        Ok(made)
    }
}

/// Returns what tells a cache from others: its name, what it starts with, and who owns it.
fn cache_key(cache: &Cache, layers: &[DiffId]) -> Digest {
    let chain = ChainId::of(layers).map(|chain| chain.to_string());
    let owner = cache.owner;
    let key = json!({
        "id": cache.id,
        "from": cache.from.as_ref().map(|_| chain),
        "owner": [owner.mode, owner.uid, owner.gid],
    });
    Digest::of(key.to_string().as_bytes())
}

fn own(path: &Path, owner: Ownership, mode: u32) -> io::Result<()> {
    chown(
        path,
        Some(owner.uid.unwrap_or(0)),
        Some(owner.gid.unwrap_or(0)),
    )?;
    let mode = owner.mode.unwrap_or(mode);
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
