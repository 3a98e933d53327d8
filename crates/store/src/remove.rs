//! Removing images by docker's rules.

use std::collections::{HashMap, HashSet};

use oci::{ChainId, DiffId, Digest, ImageId, Reference};
use rusqlite::{Connection, Transaction};

use crate::resolve::{self, Found};
use crate::{
    ContainerRecord, ImageRecord, ResolveError, Store, StoreError, container, db, image, tag,
};

/// Whether removal goes on where docker asks for `--force`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Stop at conflicts.
    No,
    /// Go on at soft conflicts.
    Yes,
}

/// One line of what was removed, in docker's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name or a name with digest was removed.
    Untagged(String),
    /// An image (its id) or a stack of layers that only it used (its ChainId) is gone.
    Deleted(Digest),
}

/// Why an image was not removed. `Display` is docker's text.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The text does not lead to an image.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The last name of an image that a container uses.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using its referenced image {image}"
    )]
    NameInUse {
        /// The name as given.
        name: String,
        /// The container's short id.
        container: String,
        /// The image's short id.
        image: String,
    },
    /// A conflict that force overrides.
    #[error("conflict: unable to delete {image} (must be forced) - {reason}")]
    MustForce {
        /// The image's short id.
        image: String,
        /// What stands against it.
        reason: Conflict,
    },
    /// A conflict that force does not override.
    #[error("conflict: unable to delete {image} (cannot be forced) - {reason}")]
    CannotForce {
        /// The image's short id.
        image: String,
        /// What stands against it.
        reason: Conflict,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What stands against deleting an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another image was committed from it.
    #[error("image has dependent child images")]
    DependentChild,
    /// A running container uses it.
    #[error("image is being used by running container {0}")]
    RunningContainer(String),
    /// A stopped container uses it.
    #[error("image is being used by stopped container {0}")]
    StoppedContainer(String),
    /// It has names in several repositories, or several names.
    #[error("image is referenced in multiple repositories")]
    MultipleRepositories,
}

impl Store {
    /// Removes a name, and the image when it was the last one, by docker's rules. Layers and
    /// blobs that nothing needs any more stay until a sweep.
    pub fn remove_image(&self, target: &str, force: Force) -> Result<Vec<Removal>, RemoveError> {
        self.freeing(|| {
            self.write(|tx| {
                let found = resolve::find(tx, target)?;
                self.remove_found(&mut Removing::new(tx)?, target, &found, force)
            })
        })
    }

    /// Returns the ids of the images that were committed from an image.
    pub fn children(&self, id: &ImageId) -> Result<Vec<ImageId>, StoreError> {
        self.read(|connection| children(connection, id))
    }

    pub(crate) fn remove_found(
        &self,
        removing: &mut Removing<'_>,
        target: &str,
        found: &Found,
        force: Force,
    ) -> Result<Vec<Removal>, RemoveError> {
        let mut removals = Vec::new();
        let tx = removing.tx;
        let id = found.id();
        let image = self.require(tx, id)?;
        let (removed_name, mask) = match found {
            Found::Name(name, _) => {
                if force == Force::No
                    && is_single_reference(&image)
                    && let Some(user) = removing.users(id).first()
                {
                    return Err(RemoveError::NameInUse {
                        name: target.to_owned(),
                        container: short(&user.id),
                        image: id.digest().short(),
                    });
                }
                if self.untag_with_digests(tx, name, &mut removals, id)? {
                    return Ok(removals);
                }
                (RemovedName::Yes, Mask::of(force))
            }
            Found::Id(_) => {
                let mask = Mask::of(force);
                if is_single_reference(&image) {
                    let others = Mask {
                        references: Check::Skip,
                        ..mask
                    };
                    if let Some(conflict) = self.conflict(removing, &image, others)? {
                        return Err(conflict.error);
                    }
                    self.untag_all(tx, &image, &mut removals)?;
                }
                (RemovedName::No, mask)
            }
        };
        removals.extend(self.delete(removing, id, mask, removed_name)?);
        Ok(removals)
    }

    fn require(&self, tx: &Connection, id: &ImageId) -> Result<ImageRecord, StoreError> {
        image::find(tx, id)?.ok_or(StoreError::ImageNotFound(*id))
    }

    /// Deletes an image and then its untagged parents, as far as nothing stands against it.
    fn delete(
        &self,
        removing: &mut Removing<'_>,
        id: &ImageId,
        mask: Mask,
        removed_name: RemovedName,
    ) -> Result<Vec<Removal>, RemoveError> {
        let tx = removing.tx;
        let mut removals = Vec::new();
        let (mut id, mut mask, mut quiet) = (*id, mask, removed_name == RemovedName::Yes);
        loop {
            let image = self.require(tx, &id)?;
            if let Some(conflict) = self.conflict(removing, &image, mask)? {
                let dangling = image.tags.is_empty()
                    && image.repo_digests.is_empty()
                    && children(tx, &id)?.is_empty();
                if quiet && (!dangling || conflict.used) {
                    return Ok(removals);
                }
                return Err(conflict.error);
            }
            self.untag_all(tx, &image, &mut removals)?;
            let key = id.digest().as_bytes();
            self.remember_image(tx, key)?;
            tx.execute("DELETE FROM images WHERE id = ?1", [key])
                .map_err(StoreError::from)?;
            removals.push(Removal::Deleted(*id.digest()));
            let chains = ChainId::all(&image.layers);
            let gone = chains[removing.kept_layers(&image.layers, &chains)?..].iter();
            removals.extend(gone.rev().map(|chain| Removal::Deleted(*chain.digest())));
            match image.parent {
                Some(parent) if image::exists(tx, &parent)? => id = parent,
                _ => return Ok(removals),
            }
            (mask, quiet) = (Mask::of(Force::No), true);
        }
    }

    /// Finds what stands against deleting an image, in docker's order.
    fn conflict(
        &self,
        removing: &Removing<'_>,
        image: &ImageRecord,
        mask: Mask,
    ) -> Result<Option<Obstacle>, StoreError> {
        let name = image.id.digest().short();
        let hard = |reason, used| Obstacle {
            used,
            error: RemoveError::CannotForce {
                image: name.clone(),
                reason,
            },
        };
        let soft = |reason, used| Obstacle {
            used,
            error: RemoveError::MustForce {
                image: name.clone(),
                reason,
            },
        };
        if !children(removing.tx, &image.id)?.is_empty() {
            return Ok(Some(hard(Conflict::DependentChild, false)));
        }
        let users = removing.users(&image.id);
        if let Some(running) = users.iter().find(|user| self.is_running(user)) {
            let reason = Conflict::RunningContainer(short(&running.id));
            return Ok(Some(hard(reason, true)));
        }
        let has_names = !image.tags.is_empty() || !image.repo_digests.is_empty();
        if mask.references == Check::Heed && has_names {
            return Ok(Some(soft(Conflict::MultipleRepositories, false)));
        }
        if mask.stopped == Check::Heed
            && let Some(stopped) = users.first()
        {
            let reason = Conflict::StoppedContainer(short(&stopped.id));
            return Ok(Some(soft(reason, true)));
        }
        Ok(None)
    }

    /// Removes a name; with the last tag of a repository go its digests. Tells whether other names
    /// remain.
    fn untag_with_digests(
        &self,
        tx: &Transaction<'_>,
        name: &Reference,
        removals: &mut Vec<Removal>,
        id: &ImageId,
    ) -> Result<bool, RemoveError> {
        tag::remove(self, tx, name)?;
        removals.push(Removal::Untagged(name.familiar()));
        let remaining = image::find(tx, id)?.ok_or(StoreError::ImageNotFound(*id))?;
        let same = |other: &Reference| other.repository() == name.repository();
        let mut digests = remaining.repo_digests;
        if name.digest().is_none() && !remaining.tags.iter().any(same) {
            for digest in digests.iter().filter(|digest| same(digest)) {
                tag::remove(self, tx, digest)?;
                removals.push(Removal::Untagged(digest.familiar()));
            }
            digests.retain(|digest| !same(digest));
        }
        Ok(!remaining.tags.is_empty() || !digests.is_empty())
    }

    fn untag_all(
        &self,
        tx: &Transaction<'_>,
        image: &ImageRecord,
        removals: &mut Vec<Removal>,
    ) -> Result<(), StoreError> {
        for name in references(image) {
            tag::remove(self, tx, name)?;
            removals.push(Removal::Untagged(name.familiar()));
        }
        Ok(())
    }
}

/// Whether a name was just removed: then an image that must stay is no error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RemovedName {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Heed,
    Skip,
}

/// Which of the conflicts that force overrides count.
#[derive(Clone, Copy)]
struct Mask {
    references: Check,
    stopped: Check,
}

impl Mask {
    fn of(force: Force) -> Self {
        let check = match force {
            Force::No => Check::Heed,
            Force::Yes => Check::Skip,
        };
        Self {
            references: check,
            stopped: check,
        }
    }
}

struct Obstacle {
    /// A container uses the image.
    used: bool,
    error: RemoveError,
}

/// Returns tags and repository digests in docker's order.
pub(crate) fn references(image: &ImageRecord) -> Vec<&Reference> {
    let mut names: Vec<&Reference> = image.tags.iter().chain(&image.repo_digests).collect();
    names.sort_by_key(ToString::to_string);
    names
}

/// Tells whether an image has at most one tag, and digests only in the repository of that tag.
fn is_single_reference(image: &ImageRecord) -> bool {
    if image.tags.len() + image.repo_digests.len() <= 1 {
        return true;
    }
    let repositories: HashSet<String> = image
        .repo_digests
        .iter()
        .map(Reference::repository)
        .collect();
    match image.tags.as_slice() {
        [] => repositories.len() == 1,
        [tag] => repositories.len() == 1 && repositories.contains(&tag.repository()),
        _ => false,
    }
}

pub(crate) fn children(connection: &Connection, id: &ImageId) -> Result<Vec<ImageId>, StoreError> {
    let mut query =
        connection.prepare_cached("SELECT id FROM images WHERE parent = ?1 ORDER BY id")?;
    let rows = query.query_map([id.digest().as_bytes()], |row| {
        db::digest(row, 0).map(ImageId)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A transaction that removes images, one or thousands, and what each removal looks at, read once.
pub(crate) struct Removing<'a> {
    pub(crate) tx: &'a Transaction<'a>,
    users: HashMap<ImageId, Vec<ContainerRecord>>,
    /// Read when the first image has gone.
    stacks: Option<Stacks>,
}

impl<'a> Removing<'a> {
    pub(crate) fn new(tx: &'a Transaction<'a>) -> Result<Self, StoreError> {
        let mut users: HashMap<ImageId, Vec<ContainerRecord>> = HashMap::new();
        for container in container::all(tx)? {
            users.entry(container.image).or_default().push(container);
        }
        Ok(Self {
            tx,
            users,
            stacks: None,
        })
    }

    /// Returns the containers that use an image, newest first.
    fn users(&self, id: &ImageId) -> &[ContainerRecord] {
        self.users.get(id).map_or(&[], Vec::as_slice)
    }

    /// Returns how many of the lowest layers of an image that has just gone others still have in
    /// the same order: images, containers and build steps.
    fn kept_layers(&mut self, layers: &[DiffId], chains: &[ChainId]) -> Result<usize, StoreError> {
        let stacks = match &mut self.stacks {
            Some(stacks) => {
                stacks.remove(layers);
                stacks
            }
            None => {
                let containers = self.users.values().flatten();
                let stacks = Stacks::read(self.tx, containers)?;
                self.stacks.insert(stacks)
            }
        };
        Ok(stacks.kept(layers, chains))
    }
}

/// Which stacks of layers there are. Hashing the chains of all would take longer than comparing
/// their layers.
#[derive(Default)]
struct Stacks {
    /// The stack that a layer makes of another one; the empty one is 0.
    above: HashMap<(usize, DiffId), usize>,
    /// How many have each stack.
    users: Vec<u32>,
    /// Chains of build steps.
    steps: HashSet<Digest>,
}

impl Stacks {
    fn read<'a>(
        connection: &Connection,
        containers: impl Iterator<Item = &'a ContainerRecord>,
    ) -> Result<Self, StoreError> {
        let mut stacks = Self {
            users: vec![0],
            ..Self::default()
        };
        let mut query = connection.prepare_cached("SELECT layers FROM images")?;
        for layers in query.query_map([], |row| db::layers(row, 0))? {
            stacks.add(&layers?);
        }
        for container in containers {
            stacks.add(&container.layers);
        }
        let mut query = connection.prepare_cached("SELECT parent_chain, layer FROM steps")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let parent = db::optional_digest(row, 0)?;
            stacks.steps.extend(parent);
            let layer = db::optional_digest(row, 1)?;
            stacks.steps.extend(layer.map(|layer| match parent {
                None => layer,
                Some(parent) => Digest::of(format!("{parent} {layer}").as_bytes()),
            }));
        }
        Ok(stacks)
    }

    fn add(&mut self, layers: &[DiffId]) {
        let mut stack = 0;
        for layer in layers {
            let next = self.users.len();
            stack = *self.above.entry((stack, *layer)).or_insert(next);
            if stack == next {
                self.users.push(0);
            }
            self.users[stack] += 1;
        }
    }

    fn remove(&mut self, layers: &[DiffId]) {
        let mut stack = 0;
        for layer in layers {
            let Some(next) = self.above.get(&(stack, *layer)) else {
                return;
            };
            stack = *next;
            self.users[stack] = self.users[stack].saturating_sub(1);
        }
    }

    fn kept(&self, layers: &[DiffId], chains: &[ChainId]) -> usize {
        let mut stack = 0;
        let mut kept = 0;
        for layer in layers {
            match self.above.get(&(stack, *layer)) {
                Some(next) if self.users[*next] > 0 => stack = *next,
                _ => break,
            }
            kept += 1;
        }
        let of_steps = chains
            .iter()
            .rposition(|chain| self.steps.contains(chain.digest()));
        kept.max(of_steps.map_or(0, |index| index + 1))
    }
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}
