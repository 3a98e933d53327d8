//! Putting a blob into a repository.

use std::time::Duration;

use reqwest::Url;
use store::Upload;

use super::content::{Content, WHOLE};
use super::error::ClientError;
use super::remote::Remote;
use super::session::{Begun, Session};

/// How many more bytes must have come before a broken upload gets all its attempts again.
const PROGRESS: u64 = 1 << 20;
/// How often an upload goes on at once: with a fresh token, in chunks, in another session.
const QUICK_RESTARTS: usize = 3;

/// How a blob came into the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uploaded {
    /// Its bytes were sent.
    Sent,
    /// The registry had it in this repository.
    Mounted(String),
}

/// What is done next for a blob.
enum Step {
    Begin,
    /// Ask the session how far it is.
    Ask(Session),
    Fill(Session),
}

/// Where a step leads to.
enum Reached {
    Session(Session),
    /// What failed, and what is next, if anything is.
    Nothing(ClientError, Option<(When, Step)>),
}

/// An attempt that failed.
pub(super) struct Setback {
    pub(super) error: Box<ClientError>,
    pub(super) again: Again,
}

/// How the upload goes on after a setback.
#[derive(Clone, Copy)]
pub(super) enum Again {
    /// In the same session, if that is alive.
    GoOn(When),
    /// From the start, in a new session.
    Anew(When),
    /// From the start, in a new session, which must not break: what the registry keeps of broken
    /// ones is of no use.
    AnewWhole,
    Never,
}

#[derive(Clone, Copy)]
pub(super) enum When {
    Now,
    Later,
    /// After so many seconds, for which the registry asked.
    After(u32),
}

/// How often an upload is tried.
struct Patience<'a> {
    remote: &'a Remote,
    pauses: Box<dyn Iterator<Item = Duration>>,
    quick: usize,
}

impl Patience<'_> {
    /// Waits before another attempt. Returns the error when there have been enough.
    fn wait(&mut self, when: When, error: ClientError) -> Result<(), ClientError> {
        match when {
            When::Now if self.quick > 0 => self.quick -= 1,
            When::Now => return Err(error),
            When::Later | When::After(_) => {
                let courier = &self.remote.courier;
                let Some(pause) = self.pauses.next() else {
                    return Err(error);
                };
                let asked = match when {
                    When::After(seconds) => Some(Duration::from_secs(seconds.into())),
                    When::Now | When::Later => None,
                };
                if asked.is_some_and(|asked| asked > courier.retry.longest_pause) {
                    return Err(error);
                }
                courier.transport.pause(asked.unwrap_or(pause))?;
            }
        }
        Ok(())
    }

    fn renew(&mut self) {
        self.pauses = Box::new(self.remote.courier.retry.pauses());
    }
}

impl Setback {
    pub(super) fn new(error: ClientError, again: Again) -> Self {
        Self {
            error: Box::new(error),
            again,
        }
    }
}

/// What fails on the way may have brought a part.
impl From<ClientError> for Setback {
    fn from(error: ClientError) -> Self {
        let again = match error.may_pass() {
            true => Again::GoOn(When::Later),
            false => Again::Never,
        };
        Self::new(error, again)
    }
}

impl Remote {
    /// Sends a blob, or has the registry mount it. An upload that fails in a way that may pass
    /// goes on where the registry says that it is, else starts again with a new session. One
    /// that was interrupted in an earlier process goes on too, when the store remembers it.
    pub(crate) fn upload_blob(&self, content: &Content<'_>) -> Result<Uploaded, ClientError> {
        let claim = self.claim(content.descriptor)?;
        let size = content.descriptor.size;
        let remembered = match &claim {
            Some(upload) => self.remembered(upload, size)?,
            None => None,
        };
        let first = match remembered {
            Some(session) => Step::Fill(session),
            None => match self.mount(&content.descriptor.digest)? {
                Some(Begun::Mounted(from)) => return Ok(Uploaded::Mounted(from)),
                Some(Begun::Session(session)) => Step::Fill(session),
                None => Step::Begin,
            },
        };
        self.send(content, claim.as_ref(), first)?;
        if let Some(upload) = claim {
            upload.forget()?;
        }
        Ok(Uploaded::Sent)
    }

    fn send(
        &self,
        content: &Content<'_>,
        claim: Option<&Upload>,
        mut step: Step,
    ) -> Result<(), ClientError> {
        let mut patience = Patience {
            remote: self,
            pauses: Box::new(self.courier.retry.pauses()),
            quick: QUICK_RESTARTS,
        };
        let size = content.descriptor.size;
        let mut farthest = 0;
        let mut whole = size <= WHOLE;
        loop {
            let (error, next) = match self.reach(step, size) {
                Reached::Nothing(error, next) => (error, next),
                Reached::Session(mut session) => {
                    if session.offset >= farthest + PROGRESS {
                        farthest = session.offset;
                        patience.renew();
                    }
                    remember(claim, &session.url)?;
                    let Err(Setback { error, again }) = self.fill(&mut session, content, claim)
                    else {
                        return Ok(());
                    };
                    whole |= matches!(again, Again::AnewWhole);
                    let next = match again {
                        Again::GoOn(when) if whole => Some((when, Step::Begin)),
                        Again::GoOn(when) => Some((when, Step::Ask(session))),
                        Again::Anew(when) => Some((when, Step::Begin)),
                        Again::AnewWhole => Some((When::Now, Step::Begin)),
                        Again::Never => None,
                    };
                    (*error, next)
                }
            };
            let Some((when, next)) = next else {
                return Err(error);
            };
            patience.wait(when, error)?;
            step = next;
        }
    }

    /// Finds or begins the session that a step leads to.
    fn reach(&self, step: Step, size: u64) -> Reached {
        match step {
            Step::Fill(session) => return Reached::Session(session),
            Step::Ask(session) => match self.ask(&session.url, size) {
                Ok(Some(found)) => return Reached::Session(found),
                Ok(None) => {}
                Err(error) => {
                    let next = match &error {
                        // A registry that went away in the middle may be starting again.
                        ClientError::Network { .. } => Some((When::Later, Step::Ask(session))),
                        // The courier has tried often enough.
                        error if error.may_pass() => None,
                        _ => Some((When::Now, Step::Begin)),
                    };
                    return Reached::Nothing(error, next);
                }
            },
            Step::Begin => {}
        }
        match self.begin() {
            Ok(session) => Reached::Session(session),
            Err(error) => Reached::Nothing(error, None),
        }
    }
}

/// Remembers where a session goes on, for a push to come.
pub(super) fn remember(claim: Option<&Upload>, url: &Url) -> Result<(), ClientError> {
    match claim {
        Some(upload) => Ok(upload.remember(url.as_str())?),
        None => Ok(()),
    }
}
