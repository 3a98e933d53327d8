//! Records against records.

use std::collections::HashSet;
use std::path::Path;

use oci::{DiffId, Digest, ImageId, MediaType, Reference};

use super::mend::Change;
use super::records::{Needs, Records};
use super::{Damage, Finding, Flaw, Mend, NeededBy};
use crate::Store;

/// Finds rows that lead nowhere or say different things of one thing.
pub(super) fn check(store: &Store, records: &Records, needs: &Needs, findings: &mut Vec<Finding>) {
    let mut check = Check {
        store,
        records,
        needs,
        findings,
        missing: HashSet::new(),
    };
    check.images();
    check.names();
    check.containers();
    check.rest();
}

struct Check<'a> {
    store: &'a Store,
    records: &'a Records,
    needs: &'a Needs,
    findings: &'a mut Vec<Finding>,
    /// What was reported.
    missing: HashSet<Digest>,
}

impl Check<'_> {
    fn images(&mut self) {
        for image in &self.records.images {
            self.need_blob(&image.id);
            if let Some(manifest) = &image.manifest {
                self.need_blob(manifest);
            }
            for layer in &image.layers {
                self.need_layer(layer);
            }
        }
    }

    fn names(&mut self) {
        let images: HashSet<Digest> = self.records.images.iter().map(|image| image.id).collect();
        for tag in &self.records.tags {
            let is_name = Reference::parse(&tag.name).is_ok_and(|name| name.tag().is_some());
            let what = match (is_name, images.contains(&tag.image)) {
                (true, true) => {
                    if let Some(manifest) = &tag.manifest {
                        self.need_blob(manifest);
                    }
                    continue;
                }
                (false, _) => "is no name of an image",
                (true, false) => "leads to no image",
            };
            let name = tag.name.clone();
            let row = format!("`{name}`");
            self.record("tags", row, what, Some(Change::DeleteTag { name }));
        }
        for (repository, digest, image) in &self.records.repo_digests {
            let is_name = Reference::parse(repository).is_ok();
            if is_name && images.contains(image) {
                continue;
            }
            let change = Change::DeleteRepoDigest {
                repository: repository.clone(),
                digest: *digest,
            };
            let row = format!("`{repository}@{digest}`");
            self.record("repo_digests", row, "leads to no image", Some(change));
        }
    }

    fn containers(&mut self) {
        for container in &self.records.containers {
            let row = format!("`{}`", container.name);
            let record = match &container.record {
                Ok(record) => record,
                Err(error) => {
                    self.record("containers", row, error, None);
                    continue;
                }
            };
            let is_same = record.id == container.id
                && record.name == container.name
                && *record.image.digest() == container.image;
            if !is_same {
                let what = "its columns contradict its record";
                self.record("containers", row, what, None);
            }
            self.need_blob(&container.image);
            for layer in &record.layers {
                self.need_layer(layer);
            }
        }
    }

    fn rest(&mut self) {
        for (key, layer) in &self.records.steps {
            if !self.records.layers.contains_key(layer) {
                let change = Change::DeleteStep { key: *key };
                let row = format!("step {}", key.short());
                self.record(
                    "steps",
                    row,
                    "made a layer that is not recorded",
                    Some(change),
                );
            }
        }
        for (_, document, _) in &self.records.served {
            self.need_blob(document);
        }
        let names: HashSet<&str> = self
            .records
            .served
            .iter()
            .map(|(name, ..)| name.as_str())
            .collect();
        for (name, part) in &self.records.served_parts {
            // Parts of a forgotten document wait for the next sweep.
            if names.contains(name.as_str()) {
                self.need_blob(part);
            }
        }
        for (digest, compression) in &self.records.compressions {
            let Some(blob) = self.records.blobs.get(digest) else {
                continue;
            };
            let is_layer = MediaType::from(compression.media_type.as_str()).is_layer();
            if is_layer && compression.size == blob.size {
                continue;
            }
            let row = format!("blob {}", digest.short());
            let what = "length or type is not that of the blob";
            let change = Change::RewriteCompression { digest: *digest };
            self.record("compressions", row, what, Some(change));
        }
    }

    /// A layer's tar is a blob too.
    fn need_blob(&mut self, digest: &Digest) {
        let is_there =
            self.records.blobs.contains_key(digest) || self.records.layers.contains_key(digest);
        if is_there || !self.missing.insert(*digest) {
            return;
        }
        let path = self.store.blob_path(digest);
        self.findings.push(Finding {
            damage: Damage::Blob {
                digest: *digest,
                role: self.needs.role(digest),
                flaw: unrecorded(&path),
            },
            path,
            needed_by: self.needs.by(digest),
        });
    }

    fn need_layer(&mut self, layer: &DiffId) {
        let digest = layer.digest();
        if self.records.layers.contains_key(digest) || !self.missing.insert(*digest) {
            return;
        }
        let path = self.store.layer_dir(layer).join("tar");
        self.findings.push(Finding {
            damage: Damage::Tar {
                layer: *layer,
                flaw: unrecorded(&path),
            },
            path,
            needed_by: self.needs.by(digest),
        });
    }

    fn record(&mut self, table: &'static str, row: String, what: &str, change: Option<Change>) {
        self.findings.push(Finding {
            damage: Damage::Record {
                table,
                row,
                what: what.to_owned(),
                mend: change.map(Mend),
            },
            path: self.store.root().join("db.sqlite"),
            needed_by: NeededBy::default(),
        });
    }
}

/// Says what is wrong with a file that has no record.
fn unrecorded(path: &Path) -> Flaw {
    match path.exists() {
        true => Flaw::Unrecorded,
        false => Flaw::Missing,
    }
}

/// Returns the finding that an image's row is not what its configuration says.
pub(super) fn contradicted_image(store: &Store, needs: &Needs, id: &Digest) -> Finding {
    let change = Change::RewriteImage { id: ImageId(*id) };
    Finding {
        damage: Damage::Record {
            table: "images",
            row: format!("image {}", id.short()),
            what: "is not what its configuration says".to_owned(),
            mend: Some(Mend(change)),
        },
        path: store.root().join("db.sqlite"),
        needed_by: NeededBy {
            images: needs.names(id),
            ..NeededBy::default()
        },
    }
}
