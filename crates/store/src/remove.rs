//! Removing images by docker's rules.

use std::collections::HashSet;

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
        self.write(|tx| {
            let found = resolve::find(tx, target)?;
            self.remove_found(tx, target, &found, force)
        })
    }

    /// Returns the ids of the images that were committed from an image.
    pub fn children(&self, id: &ImageId) -> Result<Vec<ImageId>, StoreError> {
        self.read(|connection| children(connection, id))
    }

    pub(crate) fn remove_found(
        &self,
        tx: &Transaction<'_>,
        target: &str,
        found: &Found,
        force: Force,
    ) -> Result<Vec<Removal>, RemoveError> {
        let mut removals = Vec::new();
        let id = found.id();
        let image = self.require(tx, id)?;
        let (removed_name, mask) = match found {
            Found::Name(name, _) => {
                let users = users(tx, id)?;
                if force == Force::No
                    && is_single_reference(&image)
                    && let Some(user) = users.first()
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
                    if let Some(conflict) = self.conflict(tx, &image, others)? {
                        return Err(conflict.error);
                    }
                    self.untag_all(tx, &image, &mut removals)?;
                }
                (RemovedName::No, mask)
            }
        };
        removals.extend(self.delete(tx, id, mask, removed_name)?);
        Ok(removals)
    }

    fn require(&self, tx: &Connection, id: &ImageId) -> Result<ImageRecord, StoreError> {
        image::find(tx, id)?.ok_or(StoreError::ImageNotFound(*id))
    }

    /// Deletes an image and then its untagged parents, as far as nothing stands against it.
    fn delete(
        &self,
        tx: &Transaction<'_>,
        id: &ImageId,
        mask: Mask,
        removed_name: RemovedName,
    ) -> Result<Vec<Removal>, RemoveError> {
        let mut removals = Vec::new();
        let (mut id, mut mask, mut quiet) = (*id, mask, removed_name == RemovedName::Yes);
        loop {
            let image = self.require(tx, &id)?;
            if let Some(conflict) = self.conflict(tx, &image, mask)? {
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
            let gone = chains[kept_layers(tx, &image.layers, &chains)?..].iter();
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
        tx: &Connection,
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
        if !children(tx, &image.id)?.is_empty() {
            return Ok(Some(hard(Conflict::DependentChild, false)));
        }
        let users = users(tx, &image.id)?;
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

pub(crate) fn users(
    connection: &Connection,
    id: &ImageId,
) -> Result<Vec<ContainerRecord>, StoreError> {
    let mut containers = container::all(connection)?;
    containers.retain(|container| container.image == *id);
    Ok(containers)
}

pub(crate) fn children(connection: &Connection, id: &ImageId) -> Result<Vec<ImageId>, StoreError> {
    let mut query =
        connection.prepare_cached("SELECT id FROM images WHERE parent = ?1 ORDER BY id")?;
    let rows = query.query_map([id.digest().as_bytes()], |row| {
        db::digest(row, 0).map(ImageId)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns how many of the lowest layers others still have in the same order: images, containers
/// and build steps. Stacks are compared by their layers, as hashing all of them would make a large
/// prune quadratic in hashes.
fn kept_layers(
    connection: &Connection,
    layers: &[DiffId],
    chains: &[ChainId],
) -> Result<usize, StoreError> {
    let common = |other: &[DiffId]| {
        let pairs = layers.iter().zip(other);
        pairs.take_while(|(mine, theirs)| mine == theirs).count()
    };
    let mut kept = 0;
    let mut query = connection.prepare_cached("SELECT layers FROM images")?;
    for other in query.query_map([], |row| db::layers(row, 0))? {
        kept = kept.max(common(&other?));
    }
    for container in container::all(connection)? {
        kept = kept.max(common(&container.layers));
    }
    let mut query = connection.prepare_cached("SELECT parent_chain, layer FROM steps")?;
    let mut steps = HashSet::new();
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let parent = db::optional_digest(row, 0)?;
        steps.extend(parent);
        let layer = db::optional_digest(row, 1)?;
        steps.extend(layer.map(|layer| match parent {
            None => layer,
            Some(parent) => Digest::of(format!("{parent} {layer}").as_bytes()),
        }));
    }
    let of_steps = chains
        .iter()
        .rposition(|chain| steps.contains(chain.digest()));
    Ok(kept.max(of_steps.map_or(0, |index| index + 1)))
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}
