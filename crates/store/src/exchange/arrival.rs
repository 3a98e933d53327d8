//! A blob's file, read by one thread while another writes it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How far the writing thread is. What it writes is on the file first, so that it never waits for
/// the reading one: a slow reader holds up no connection, and a kill loses nothing that had come.
#[derive(Debug)]
pub(super) struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy)]
struct State {
    bytes: u64,
    end: End,
}

/// Whether more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Whole,
    Broken,
}

impl Arrival {
    /// Says that `bytes` are on the file.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            state: Mutex::new(State {
                bytes,
                end: End::Open,
            }),
            changed: Condvar::new(),
        }
    }

    /// Says that more is on the file.
    pub(super) fn add(&self, bytes: u64) {
        self.state().bytes += bytes;
        self.changed.notify_one();
    }

    /// Says that nothing more will come: the blob is whole, or it broke off. An end would look
    /// like a whole, shorter blob.
    pub(super) fn end(&self, is_whole: bool) {
        self.state().end = match is_whole {
            true => End::Whole,
            false => End::Broken,
        };
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is more than `position`, or no more to come.
    fn after(&self, position: u64) -> State {
        let waiting = |state: &mut State| state.bytes <= position && state.end == End::Open;
        let state = self.changed.wait_while(self.state(), waiting);
        *state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a blob's file from its start, and waits for what has not come yet.
#[derive(Debug)]
pub(super) struct ArrivalReader<'a> {
    file: File,
    position: u64,
    arrival: &'a Arrival,
}

impl<'a> ArrivalReader<'a> {
    pub(super) fn new(file: File, arrival: &'a Arrival) -> Self {
        Self {
            file,
            position: 0,
            arrival,
        }
    }
}

impl Read for ArrivalReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let State { bytes, end } = self.arrival.after(self.position);
        let there = bytes.saturating_sub(self.position);
        if there == 0 && end == End::Broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = usize::try_from(there).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.position)?;
        self.position += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::thread;

    use super::*;

    /// Reads while `write` writes; returns what was read.
    fn read(write: impl FnOnce(&mut File, &Arrival) + Send, kept: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(kept).expect("written");
        let arrival = Arrival::new(u64::try_from(kept.len()).expect("short"));
        let reader = ArrivalReader::new(file.try_clone().expect("cloned"), &arrival);
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut bytes = Vec::new();
                let mut reader = reader;
                reader.read_to_end(&mut bytes).map(|_| bytes)
            });
            write(&mut file, &arrival);
            reading.join().expect("no panic")
        })
    }

    #[test]
    fn what_is_written_is_read_to_its_end() {
        let write = |file: &mut File, arrival: &Arrival| {
            for _ in 0..1000 {
                file.write_all(b"more").expect("written");
                arrival.add(4);
            }
            arrival.end(true);
        };
        let expected = [&b"kept "[..], &b"more".repeat(1000)].concat();
        assert_eq!(read(write, b"kept ").expect("whole"), expected);
    }

    #[test]
    fn what_broke_off_has_no_end() {
        let write = |_: &mut File, arrival: &Arrival| arrival.end(false);
        let error = read(write, b"kept").expect_err("broken");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
