//! Bodies: files on their way out, uploads on their way in.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use store::KeptBlob;
use tokio::task::{JoinHandle, spawn_blocking};

use super::sessions::Writing;

/// The piece in which files are read and sent.
const CHUNK: usize = 512 << 10;
/// What is gathered of an upload before it is written.
const BATCH: usize = 512 << 10;
/// How long a client may be silent in the middle of an upload.
const STALL: Duration = Duration::from_secs(120);

/// A part of a file. The next piece is read while the last one is sent; no thread waits for a
/// slow client.
pub(crate) struct FileBody {
    reading: Option<JoinHandle<io::Result<(File, Bytes)>>>,
    remaining: u64,
}

impl FileBody {
    /// Sends `length` bytes of `file` from `offset`.
    pub(crate) fn new(mut file: File, offset: u64, length: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            reading: (length > 0).then(|| read(file, length)),
            remaining: length,
        })
    }
}

fn read(mut file: File, remaining: u64) -> JoinHandle<io::Result<(File, Bytes)>> {
    spawn_blocking(move || {
        let length = usize::try_from(remaining).map_or(CHUNK, |rest| rest.min(CHUNK));
        let mut chunk = Vec::with_capacity(length);
        let limit = u64::try_from(length).map_err(io::Error::other)?;
        if Read::by_ref(&mut file)
            .take(limit)
            .read_to_end(&mut chunk)?
            < length
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((file, chunk.into()))
    })
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let outcome = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let (file, chunk) = match outcome.map_err(io::Error::other).flatten() {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let length = u64::try_from(chunk.len()).expect("a chunk is short");
        self.remaining = self.remaining.saturating_sub(length);
        if self.remaining > 0 {
            self.reading = Some(read(file, self.remaining));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// How the receiving of a body ended. What came before a break is in the blob.
pub(crate) enum Received {
    Whole(KeptBlob),
    Broken(KeptBlob),
    /// Another request wants the session.
    Stopped(KeptBlob),
}

/// Appends a request's body to `blob`, until another request takes over. Network and disk work
/// at the same time. When writing fails, the blob is discarded.
pub(crate) async fn receive(
    mut body: Body,
    blob: KeptBlob,
    writing: &Writing,
) -> io::Result<Received> {
    let mut blob = Some(blob);
    let mut written: Option<JoinHandle<io::Result<KeptBlob>>> = None;
    loop {
        let (batch, end) = gather(&mut body, writing).await;
        let target = match (written.take(), blob.take()) {
            (Some(written), _) => finished(written).await?,
            (None, blob) => blob.expect("invariant: the blob is here or being written"),
        };
        writing.size.store(target.size(), Ordering::Relaxed);
        let writing_batch = spawn_blocking(move || write(target, &batch));
        match end {
            End::More => written = Some(writing_batch),
            End::Whole => return Ok(Received::Whole(finished(writing_batch).await?)),
            End::Broken => return Ok(Received::Broken(finished(writing_batch).await?)),
            End::Stopped => return Ok(Received::Stopped(finished(writing_batch).await?)),
        }
    }
}

async fn finished(writing: JoinHandle<io::Result<KeptBlob>>) -> io::Result<KeptBlob> {
    writing.await.map_err(io::Error::other)?
}

enum End {
    More,
    Whole,
    Broken,
    Stopped,
}

async fn gather(body: &mut Body, writing: &Writing) -> (Vec<Bytes>, End) {
    let mut batch = Vec::new();
    let mut length = 0;
    let mut stopped = pin!(writing.stop.notified());
    while length < BATCH {
        let frame = poll_fn(|context| {
            if stopped.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(()));
            }
            Pin::new(&mut *body).poll_frame(context).map(Ok)
        });
        match tokio::time::timeout(STALL, frame).await {
            Ok(Ok(None)) => return (batch, End::Whole),
            Ok(Ok(Some(Ok(frame)))) => {
                if let Ok(bytes) = frame.into_data() {
                    length += bytes.len();
                    batch.push(bytes);
                }
            }
            Ok(Err(())) => return (batch, End::Stopped),
            Ok(Ok(Some(Err(_)))) | Err(_) => return (batch, End::Broken),
        }
    }
    (batch, End::More)
}

fn write(mut blob: KeptBlob, batch: &[Bytes]) -> io::Result<KeptBlob> {
    let written = batch.iter().try_for_each(|bytes| blob.write_all(bytes));
    match written {
        Ok(()) => Ok(blob),
        Err(error) => {
            // The first failure is the one to tell; what stays is swept.
            drop(blob.discard());
            Err(error)
        }
    }
}
