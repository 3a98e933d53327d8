//! Sessions in which clients send blobs: in memory while they are used, on disk as long as
//! something came in them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci::{Digest, Reference};
use store::KeptBlob;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::timeout;

use super::failure::Failure;
use super::site::{Site, blocking};

/// A session that nobody used for this long is only on disk.
const IDLE: Duration = Duration::from_secs(3600);
/// The most sessions in memory; each holds an open file, of which a process often gets 1024.
const MAX_SESSIONS: usize = 256;
/// How long a request waits for the one that has the session. That one was told to stop, or ends
/// as soon as what a broken connection brought is written.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client that only wants to know the size waits for a final one.
const LOOK: Duration = Duration::from_secs(2);
/// The length of an id: 16 bytes in hex.
const ID_LENGTH: usize = 32;

/// The uploads under way.
#[derive(Default)]
pub(crate) struct Sessions {
    here: Mutex<HashMap<String, Arc<Session>>>,
    /// One request at a time looks on disk: two would take the same file for another process's.
    looking: tokio::sync::Mutex<()>,
}

struct Session {
    repository: Reference,
    used: Mutex<Instant>,
    /// `None` once the session is closed. Locked by the request that uses it.
    blob: Arc<tokio::sync::Mutex<Option<KeptBlob>>>,
    writing: Mutex<Arc<Writing>>,
}

/// What others can see of the request that writes to a session, and tell it.
#[derive(Default)]
pub(crate) struct Writing {
    /// Ends its body as if the connection had broken.
    pub(crate) stop: Notify,
    /// The size of the blob so far.
    pub(crate) size: AtomicU64,
}

/// Whether the request that has the session is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// For a client that says where it goes on: its earlier connection is of no use, but may
    /// look alive from here for long.
    Insist,
    /// For one that does not.
    Wait,
}

/// A session that one request has for itself.
pub(crate) struct Borrowed {
    pub(crate) id: String,
    pub(crate) writing: Arc<Writing>,
    session: Arc<Session>,
    guard: OwnedMutexGuard<Option<KeptBlob>>,
}

impl Borrowed {
    /// Returns the size of the blob so far.
    pub(crate) fn size(&self) -> u64 {
        self.guard.as_ref().map_or(0, KeptBlob::size)
    }

    /// Takes the blob, to put it back or to end the session.
    pub(crate) fn take(&mut self) -> Result<KeptBlob, Failure> {
        self.guard.take().ok_or_else(Failure::upload_unknown)
    }

    /// Puts the blob back.
    pub(crate) fn put_back(&mut self, blob: KeptBlob) {
        *self.guard = Some(blob);
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.session.touch();
    }
}

impl Session {
    fn new(repository: Reference, blob: KeptBlob) -> Arc<Self> {
        Arc::new(Self {
            repository,
            used: Mutex::new(Instant::now()),
            blob: Arc::new(tokio::sync::Mutex::new(Some(blob))),
            writing: Mutex::default(),
        })
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_idle(&self) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.elapsed() >= IDLE && self.blob.try_lock().is_ok()
    }

    fn writing(&self) -> Arc<Writing> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.clone()
    }

    async fn borrow(self: Arc<Self>, id: &str, claim: Claim) -> Result<Borrowed, Failure> {
        let guard = match self.blob.clone().try_lock_owned() {
            Ok(guard) => guard,
            Err(_) => {
                if claim == Claim::Insist {
                    self.writing().stop.notify_one();
                }
                let lock = timeout(PATIENCE, self.blob.clone().lock_owned()).await;
                let busy = "another request writes to this upload";
                lock.map_err(|_| Failure::upload_invalid(busy))?
            }
        };
        let size = guard.as_ref().ok_or_else(Failure::upload_unknown)?.size();
        let writing = Arc::new(Writing {
            stop: Notify::new(),
            size: AtomicU64::new(size),
        });
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = writing.clone();
        Ok(Borrowed {
            id: id.to_owned(),
            writing,
            session: self,
            guard,
        })
    }
}

impl Sessions {
    /// Begins a session and returns its id.
    pub(crate) fn open(&self, site: &Site, repository: &Reference) -> Result<String, Failure> {
        let id = random_id().map_err(Failure::internal)?;
        let blob = site.store().start_kept_blob(&name(repository, &id))?;
        self.insert(&id, Session::new(repository.clone(), blob))?;
        Ok(id)
    }

    /// Has a session for one request.
    pub(crate) async fn borrow(
        &self,
        site: &Arc<Site>,
        repository: &Reference,
        id: &str,
        claim: Claim,
    ) -> Result<Borrowed, Failure> {
        let session = self.find(site, repository, id).await?;
        session.borrow(id, claim).await
    }

    /// Returns how much came in a session. Waits a little for a request that writes to it: most
    /// often that is the rest of a connection that broke.
    pub(crate) async fn size(
        &self,
        site: &Arc<Site>,
        repository: &Reference,
        id: &str,
    ) -> Result<u64, Failure> {
        let session = self.find(site, repository, id).await?;
        session.touch();
        let Ok(guard) = timeout(LOOK, session.blob.lock()).await else {
            return Ok(session.writing().size.load(Ordering::Relaxed));
        };
        let blob = guard.as_ref().ok_or_else(Failure::upload_unknown)?;
        Ok(blob.size())
    }

    /// Ends a session. Requests that wait for it find that it is gone.
    pub(crate) fn close(&self, id: &str) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.remove(id);
    }

    /// Finds a session, on disk when this process has not begun it.
    async fn find(
        &self,
        site: &Arc<Site>,
        repository: &Reference,
        id: &str,
    ) -> Result<Arc<Session>, Failure> {
        if !is_id(id) {
            return Err(Failure::upload_unknown());
        }
        if let Some(session) = self.here(repository, id)? {
            return Ok(session);
        }
        let looking = self.looking.lock().await;
        if let Some(session) = self.here(repository, id)? {
            return Ok(session);
        }
        let name = name(repository, id);
        let found = blocking(site, move |site| Ok(site.store().find_kept_blob(&name)?)).await?;
        let blob = found.ok_or_else(Failure::upload_unknown)?;
        let session = Session::new(repository.clone(), blob);
        self.insert(id, session.clone())?;
        drop(looking);
        Ok(session)
    }

    fn here(&self, repository: &Reference, id: &str) -> Result<Option<Arc<Session>>, Failure> {
        let here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        match here.get(id) {
            Some(session) if session.repository == *repository => Ok(Some(session.clone())),
            Some(_) => Err(Failure::upload_unknown()),
            None => Ok(None),
        }
    }

    fn insert(&self, id: &str, session: Arc<Session>) -> Result<(), Failure> {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.retain(|_, session| !session.is_idle());
        if here.len() >= MAX_SESSIONS {
            return Err(Failure::too_many_uploads());
        }
        here.insert(id.to_owned(), session);
        Ok(())
    }
}

/// Returns the name on disk: of this session in this repository only.
fn name(repository: &Reference, id: &str) -> Digest {
    Digest::of(format!("{id} {}", repository.repository()).as_bytes())
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; ID_LENGTH / 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut id, byte| {
        write!(id, "{byte:02x}").expect("writing to a String cannot fail");
        id
    }))
}
