//! Upload sessions at registries in which blobs are being sent.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use oci::Digest;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::blob_writer::is_at;
use crate::error::at;
use crate::{Store, StoreError, Timestamp, lock};

/// How long a session is remembered. Registries keep none longer.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The right to send one blob to one repository in the session that is remembered for them, and
/// to remember another. One process at a time has it; when that dies, the next one may have it
/// and finds the session.
///
/// ```text
/// claim_upload(repository, digest) -> find() -> remember(url)… -> forget()
///                                                             \-> drop: for the next push
/// ```
#[derive(Debug)]
pub struct Upload {
    store: Store,
    repository: String,
    digest: Digest,
    path: PathBuf,
    /// Locked as long as this lives.
    _file: File,
}

impl Upload {
    /// Returns the URL of the session in which an earlier push was sending the blob.
    pub fn find(&self) -> Result<Option<String>, StoreError> {
        self.store.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT url FROM uploads WHERE repository = ?1 AND digest = ?2 AND started > ?3",
            )?;
            let key = params![self.repository, self.digest.as_bytes(), oldest()];
            Ok(query.query_row(key, |row| row.get(0)).optional()?)
        })
    }

    /// Remembers how the session goes on, in place of what was remembered before.
    pub fn remember(&self, url: &str) -> Result<(), StoreError> {
        self.store.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO uploads (repository, digest, url, started)
                    VALUES (?1, ?2, ?3, ?4)",
                params![
                    self.repository,
                    self.digest.as_bytes(),
                    url,
                    Timestamp::now().0
                ],
            )?;
            Ok(())
        })
    }

    /// Forgets the session: the blob is stored, or the session cannot be used.
    pub fn forget(&self) -> Result<(), StoreError> {
        self.store
            .write(|tx| forget(tx, &self.repository, &self.digest))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Still locked, so nobody else can have made another. What stays is swept.
        drop(fs::remove_file(&self.path));
    }
}

impl Store {
    /// Claims the session for a blob on its way to `repository`, as `origins` names it. `None`
    /// while another push sends the same blob there: two in one session would spoil it. The
    /// caller holds the root's lock shared, as long as it has this.
    pub fn claim_upload(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Upload>, StoreError> {
        self.check_writable()?;
        let key = Digest::of(format!("{digest} {repository}").as_bytes());
        let path = self.ingest_dir().join(format!("{}.upload", key.hex()));
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(at("create", &path))?;
            if !lock::try_exclusive(&file, &path)? {
                return Ok(None);
            }
            // The one before may have removed it after it was opened here.
            if is_at(&file, &path)? {
                return Ok(Some(Upload {
                    store: self.clone(),
                    repository: repository.to_owned(),
                    digest: *digest,
                    path,
                    _file: file,
                }));
            }
        }
    }
}

/// Forgets the session for a blob that the repository has.
pub(crate) fn forget(
    tx: &Transaction<'_>,
    repository: &str,
    digest: &Digest,
) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM uploads WHERE repository = ?1 AND digest = ?2",
        params![repository, digest.as_bytes()],
    )?;
    Ok(())
}

/// Forgets sessions that nobody went on with.
pub(crate) fn forget_stale(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.execute("DELETE FROM uploads WHERE started <= ?1", [oldest()])?;
    Ok(())
}

fn oldest() -> i64 {
    let kept = i64::try_from(REMEMBERED.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::now().0.saturating_sub(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "quay.io/team/app";

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        (directory, store)
    }

    fn claim(store: &Store) -> Upload {
        let claimed = store.claim_upload(HERE, &Digest::of(b"blob"));
        claimed.expect("asked").expect("free")
    }

    fn found(store: &Store) -> Option<String> {
        claim(store).find().expect("read")
    }

    #[test]
    fn a_session_is_remembered_until_its_blob_is_stored() {
        let (_directory, store) = store();
        let digest = Digest::of(b"blob");
        assert_eq!(found(&store), None);
        claim(&store).remember("https://quay.io/1").expect("kept");
        claim(&store).remember("https://quay.io/2").expect("kept");
        store.sweep().expect("swept");
        assert_eq!(found(&store).as_deref(), Some("https://quay.io/2"));
        let elsewhere = store.claim_upload("quay.io/team/other", &digest);
        let elsewhere = elsewhere.expect("asked").expect("free");
        assert_eq!(elsewhere.find().expect("read"), None);
        claim(&store).forget().expect("forgotten");
        assert_eq!(found(&store), None);
        claim(&store).remember("https://quay.io/3").expect("kept");
        store.record_origin(&digest, HERE).expect("recorded");
        assert_eq!(found(&store), None);
    }

    #[test]
    fn one_push_at_a_time_has_a_session() {
        let (_directory, store) = store();
        let digest = Digest::of(b"blob");
        let first = claim(&store);
        first.remember("https://quay.io/1").expect("kept");
        let second = store.claim_upload(HERE, &digest).expect("asked");
        assert!(second.is_none());
        let other = store.claim_upload(HERE, &Digest::of(b"other"));
        assert!(other.expect("asked").is_some());
        drop(first);
        assert_eq!(found(&store).as_deref(), Some("https://quay.io/1"));
        let left = fs::read_dir(store.ingest_dir()).expect("there").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_session_that_is_older_than_a_week_is_forgotten() {
        let (_directory, store) = store();
        claim(&store).remember("https://quay.io/1").expect("kept");
        let age = |nanoseconds: i64| {
            store
                .write(|tx| {
                    tx.execute("UPDATE uploads SET started = started - ?1", [nanoseconds])?;
                    Ok::<_, StoreError>(())
                })
                .expect("aged");
        };
        let rows = || {
            store
                .read(|connection| {
                    let count = "SELECT count(*) FROM uploads";
                    Ok(connection.query_row(count, [], |row| row.get::<_, i64>(0))?)
                })
                .expect("read")
        };
        age(6 * 24 * 3600 * 1_000_000_000);
        store.sweep().expect("swept");
        assert_eq!(rows(), 1);
        age(24 * 3600 * 1_000_000_000);
        assert_eq!(found(&store), None);
        store.sweep().expect("swept");
        assert_eq!(rows(), 0);
    }
}
