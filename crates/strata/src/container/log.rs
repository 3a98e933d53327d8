//! What a container printed, kept in docker's `json-file` form: one JSON object for each line,
//! `{"log":"text\n","stream":"stdout","time":"2026-11-23T06:28:55.312283888Z"}`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A line that grows longer is cut in pieces, as docker does.
const MAX_LINE: usize = 16 << 10;

/// Which output of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The text, with its line end if it had one; invalid UTF-8 was replaced.
    pub log: String,
    /// Where it was printed.
    pub stream: Stream,
    /// When, RFC 3339.
    pub time: String,
}

/// Writes a container's log. Lines reach the file when they end, or when [`Log::flush`] is
/// called: a reader never sees half an object.
#[derive(Debug)]
pub struct Log {
    file: File,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Log {
    /// Opens the log at `path` to add to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    /// Adds what the container printed.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let pending = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut objects = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(piece);
            while pending.len() > MAX_LINE {
                let rest = pending.split_off(MAX_LINE);
                push_object(&mut objects, stream, pending);
                *pending = rest;
            }
            if pending.ends_with(b"\n") {
                push_object(&mut objects, stream, pending);
                pending.clear();
            }
        }
        self.file.write_all(&objects)
    }

    /// Writes lines that have not ended.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut objects = Vec::new();
        for (stream, pending) in [
            (Stream::Stdout, &mut self.stdout),
            (Stream::Stderr, &mut self.stderr),
        ] {
            if !pending.is_empty() {
                push_object(&mut objects, stream, pending);
                pending.clear();
            }
        }
        self.file.write_all(&objects)
    }
}

fn push_object(objects: &mut Vec<u8>, stream: Stream, text: &[u8]) {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let nanoseconds = i128::try_from(elapsed.as_nanos()).unwrap_or(0);
    let time = Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    let line = Line {
        log: String::from_utf8_lossy(text).into_owned(),
        stream,
        time: format!("{time:.9}"),
    };
    serde_json::to_writer(&mut *objects, &line).expect("a line has only strings");
    objects.push(b'\n');
}

/// Returns the next line of a log, `None` at its end. What is no line is skipped: the machine
/// may have stopped while one was written.
pub fn read_line(log: &mut dyn BufRead) -> io::Result<Option<Line>> {
    let mut text = Vec::new();
    loop {
        text.clear();
        if log.read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        if let Ok(line) = serde_json::from_slice(&text) {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were_printed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let mut log = Log::open(&path).expect("opens");
        log.write(Stream::Stdout, b"one\ntw").expect("writes");
        log.write(Stream::Stderr, b"bad \xff\n").expect("writes");
        log.write(Stream::Stdout, b"o\nno end").expect("writes");
        log.flush().expect("writes");
        let mut reader = io::BufReader::new(File::open(&path).expect("opens"));
        let mut found = Vec::new();
        while let Some(line) = read_line(&mut reader).expect("reads") {
            assert_eq!(line.time.len(), "2026-11-23T06:28:55.312283888Z".len());
            found.push((line.stream, line.log));
        }
        assert_eq!(
            found,
            [
                (Stream::Stdout, "one\n".to_owned()),
                (Stream::Stderr, "bad \u{fffd}\n".to_owned()),
                (Stream::Stdout, "two\n".to_owned()),
                (Stream::Stdout, "no end".to_owned()),
            ]
        );
    }

    #[test]
    fn a_long_line_is_cut_in_pieces() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let mut log = Log::open(&path).expect("opens");
        let long = vec![b'x'; MAX_LINE * 2 + 5];
        log.write(Stream::Stdout, &long).expect("writes");
        log.write(Stream::Stdout, b"\n").expect("writes");
        let mut reader = io::BufReader::new(File::open(&path).expect("opens"));
        let mut lengths = Vec::new();
        while let Some(line) = read_line(&mut reader).expect("reads") {
            lengths.push(line.log.len());
        }
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, 6]);
    }
}
