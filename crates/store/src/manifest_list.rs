//! Lists of manifests that people put together, until they are pushed as an index.

use oci::{Descriptor, Reference};
use rusqlite::{Connection, params};

use crate::tag::key;
use crate::{Store, StoreError};

/// A manifest in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// Where it is: a name as it was given, with tag or digest.
    pub name: Reference,
    /// What the index will say of it, with the platform.
    pub descriptor: Descriptor,
}

impl Store {
    /// Adds manifests to the end of the list `list` (a tag), which begins with the first. An entry
    /// of the same name is replaced where it is.
    pub fn add_to_list(&self, list: &Reference, entries: &[ListEntry]) -> Result<(), StoreError> {
        let key = key(list);
        self.write(|tx| {
            for entry in entries {
                tx.execute(
                    "INSERT INTO manifest_lists (list, position, name, descriptor) VALUES (?1,
                        (SELECT coalesce(max(position), 0) + 1 FROM manifest_lists WHERE list = ?1),
                        ?2, ?3)
                        ON CONFLICT (list, name) DO UPDATE SET descriptor = excluded.descriptor",
                    params![key, entry.name.to_string(), to_json(&entry.descriptor)],
                )?;
            }
            Ok(())
        })
    }

    /// Returns the manifests of a list in their order; none when there is no such list.
    pub fn list_entries(&self, list: &Reference) -> Result<Vec<ListEntry>, StoreError> {
        self.read(|connection| entries(connection, &key(list)))
    }

    /// Removes a list; tells whether there was one.
    pub fn remove_list(&self, list: &Reference) -> Result<bool, StoreError> {
        self.write(|tx| {
            let removed = tx.execute("DELETE FROM manifest_lists WHERE list = ?1", [key(list)])?;
            Ok(removed > 0)
        })
    }
}

fn entries(connection: &Connection, key: &str) -> Result<Vec<ListEntry>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT name, descriptor FROM manifest_lists WHERE list = ?1 ORDER BY position",
    )?;
    let mut rows = query.query([key])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let descriptor = serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or_default());
        // Only valid names are written.
        if let Ok(name) = Reference::parse(row.get_ref(0)?.as_str().unwrap_or_default()) {
            entries.push(ListEntry {
                name,
                descriptor: descriptor.map_err(|source| StoreError::MalformedRecord {
                    table: "manifest_lists",
                    source,
                })?,
            });
        }
    }
    Ok(entries)
}

fn to_json(descriptor: &Descriptor) -> String {
    serde_json::to_string(descriptor).expect("invariant: a descriptor has string keys")
}

#[cfg(test)]
mod tests {
    use oci::MediaType;

    use super::*;

    fn entry(name: &str, platform: &str) -> ListEntry {
        let mut descriptor = Descriptor::of(MediaType::OCI_MANIFEST, name.as_bytes());
        descriptor.platform = platform.parse().ok();
        ListEntry {
            name: Reference::parse(name).expect("a name"),
            descriptor,
        }
    }

    #[test]
    fn entries_keep_their_order_and_are_replaced_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        let list = Reference::parse("q.io/app").expect("a name");
        let (b, a) = (entry("app:b", "linux/amd64"), entry("app:a", "linux/arm64"));
        store
            .add_to_list(&list, &[b.clone(), a.clone()])
            .expect("added");
        let changed = entry("app:b", "linux/s390x");
        let last = entry("app:c", "linux/arm");
        let new = [changed.clone(), last.clone()];
        store.add_to_list(&list, &new).expect("added");
        let tagged = Reference::parse("q.io/app:latest").expect("a name");
        let found = store.list_entries(&tagged).expect("read");
        assert_eq!(found, [changed, a, last]);
        let other = Reference::parse("q.io/app:2").expect("a name");
        assert_eq!(store.list_entries(&other).expect("read"), []);
        assert!(store.remove_list(&list).expect("removed"));
        assert!(!store.remove_list(&list).expect("nothing there"));
    }
}
