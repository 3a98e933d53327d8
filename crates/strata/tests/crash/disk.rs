//! A disk that remembers in which order it was written to, and what of that had been flushed: a file
//! of our own FUSE server, on which a file system is mounted through a loop device.
//!
//! The mount point is the file itself, so there is one inode, and only the requests that a loop
//! device makes have to be answered.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const PATIENCE: Duration = Duration::from_secs(30);

/// What survives a power cut together or not at all.
pub(crate) const BLOCK: usize = 4096;

/// Something that reached the disk.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// These bytes were written there.
    Write(usize, Vec<u8>),
    /// Everything before is safe.
    Flush,
}

/// A disk and the file system on it. Dropped, both go.
pub(crate) struct Disk {
    content: Arc<Mutex<Content>>,
    file: PathBuf,
    point: PathBuf,
    server: Option<JoinHandle<()>>,
}

struct Content {
    safe: Vec<u8>,
    /// What was written over `safe` and is forgotten by [`Disk::reset`].
    over: HashMap<usize, Vec<u8>>,
    events: Option<Vec<Event>>,
}

impl Content {
    fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let end = (offset + length).min(self.safe.len());
        let mut bytes = self.safe[offset.min(end)..end].to_vec();
        if !self.over.is_empty() {
            for (block, piece) in pieces(offset, bytes.len()) {
                if let Some(over) = self.over.get(&block) {
                    let from = offset + piece.start - block * BLOCK;
                    bytes[piece.clone()].copy_from_slice(&over[from..from + piece.len()]);
                }
            }
        }
        bytes
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(events) = &mut self.events {
            events.push(Event::Write(offset, bytes.to_vec()));
            self.safe[offset..offset + bytes.len()].copy_from_slice(bytes);
            return;
        }
        self.write_over(offset, bytes);
    }

    fn write_over(&mut self, offset: usize, bytes: &[u8]) {
        for (block, piece) in pieces(offset, bytes.len()) {
            let start = block * BLOCK;
            let safe = &self.safe;
            let over = self.over.entry(block);
            let over = over.or_insert_with(|| safe[start..start + BLOCK].to_vec());
            let from = offset + piece.start - start;
            over[from..from + piece.len()].copy_from_slice(&bytes[piece]);
        }
    }
}

/// Cuts a range at the borders of blocks: the block's number, and the part of the range.
fn pieces(offset: usize, length: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let piece = done..length.min(done + BLOCK - at % BLOCK);
        done = piece.end;
        (!piece.is_empty()).then_some((at / BLOCK, piece))
    })
}

impl Disk {
    /// Makes an empty disk of `size` bytes: the file `file`, to be mounted at `point`.
    pub(crate) fn new(file: &Path, point: &Path, size: usize) -> Self {
        fs::write(file, b"").expect("a mount point");
        fs::create_dir(point).expect("a mount point");
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.expect("the kernel has FUSE");
        let number = device.as_raw_fd();
        let options = format!("fd={number},rootmode=100600,user_id=0,group_id=0");
        let options = CString::new(options).expect("text");
        mount(
            "strata-test",
            file,
            "fuse",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .expect("mounted");
        let content = Arc::new(Mutex::new(Content {
            safe: vec![0; size],
            over: HashMap::new(),
            events: None,
        }));
        let served = content.clone();
        Self {
            content,
            file: file.to_owned(),
            point: point.to_owned(),
            server: Some(std::thread::spawn(move || serve(device, &served))),
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("not poisoned")
    }

    /// Makes a file system on the disk, with nothing in it.
    pub(crate) fn format(&self) {
        self.remember();
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-J", "size=8", "-E", options])
            .arg(&self.file);
        run(&mut make);
        self.mount("defaults");
        fs::remove_dir(self.point.join("lost+found")).expect("an empty directory");
        self.unmount();
        self.events();
    }

    /// Mounts the file system.
    pub(crate) fn mount(&self, options: &str) {
        let options = format!("loop,{options}");
        let mut mount = Command::new("mount");
        run(mount
            .args(["-t", "ext4", "-o", &options])
            .arg(&self.file)
            .arg(&self.point));
    }

    /// Unmounts the file system, and waits until the loop device is gone: mounted again, it would
    /// show what it remembers.
    pub(crate) fn unmount(&self) {
        // A process that is about to be gone has its files open for a moment longer.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = unmount(&self.point, UnmountFlags::empty()) {
            assert!(error == Errno::BUSY && Instant::now() < deadline, "{error}");
            std::thread::yield_now();
        }
        while self.has_loop_device() {
            std::thread::yield_now();
        }
    }

    fn has_loop_device(&self) -> bool {
        let devices = fs::read_dir("/sys/block").expect("the kernel tells");
        let mut devices = devices.map(|device| device.expect("a device").path());
        devices.any(|device| {
            let file = fs::read_to_string(device.join("loop/backing_file"));
            file.is_ok_and(|file| Path::new(file.trim_end()) == self.file)
        })
    }

    /// Remembers events from now on.
    pub(crate) fn remember(&self) {
        self.content().events = Some(Vec::new());
    }

    /// Returns how many events there were.
    pub(crate) fn count(&self) -> usize {
        self.content().events.as_ref().map_or(0, Vec::len)
    }

    /// Ends remembering, and returns what there was.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.content().events.take().unwrap_or_default()
    }

    /// Returns all bytes.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.content().safe.clone()
    }

    /// Replaces all bytes, of a disk that is not mounted.
    pub(crate) fn set(&self, image: Vec<u8>) {
        let mut content = self.content();
        content.safe = image;
        content.over.clear();
    }

    /// Forgets what was written since [`Disk::set`], apart from `events`, which are written for good.
    /// The disk is not mounted.
    pub(crate) fn advance(&self, events: &[Event]) {
        let mut content = self.content();
        content.over.clear();
        for event in events {
            if let Event::Write(offset, bytes) = event {
                content.safe[*offset..*offset + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// Writes what will be forgotten.
    pub(crate) fn write_over(&self, offset: usize, bytes: &[u8]) {
        self.content().write_over(offset, bytes);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not mounted is what is wanted.
        _ = unmount(&self.point, UnmountFlags::DETACH);
        _ = unmount(&self.file, UnmountFlags::DETACH);
        if let Some(server) = self.server.take()
            && !std::thread::panicking()
        {
            server.join().expect("the server ends with its mount");
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// The largest write that is taken at once.
const MAX_WRITE: u32 = 128 << 10;

const IN_HEADER: usize = 40;

// The requests, by their numbers in linux/fuse.h.
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const ACCESS: u32 = 34;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;

/// The kernel remembers nothing of the file.
const DIRECT_IO: u32 = 1;

const NOT_IMPLEMENTED: i32 = -38;

/// Answers requests until the file is unmounted.
fn serve(mut device: File, content: &Mutex<Content>) {
    let mut buffer = vec![0; MAX_WRITE as usize + 4096];
    // An error says that the mount is gone.
    while let Ok(length @ IN_HEADER..) = device.read(&mut buffer) {
        let request = &buffer[..length];
        let unique = &request[8..16];
        let answer = answer(number(request, 4), &request[IN_HEADER..], content);
        let (error, body) = match answer {
            Some(Ok(body)) => (0, body),
            Some(Err(error)) => (error, Vec::new()),
            None => continue,
        };
        let length = u32::try_from(16 + body.len()).expect("an answer");
        let mut reply = length.to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(unique);
        reply.extend(body);
        // Whoever asked may have been killed.
        drop(device.write_all(&reply));
    }
}

/// Returns the body of the answer, or the error; `None` where there is no answer.
fn answer(opcode: u32, body: &[u8], content: &Mutex<Content>) -> Option<Result<Vec<u8>, i32>> {
    let mut content = content.lock().expect("not poisoned");
    let position = || {
        let position = u64::from_ne_bytes(body[8..16].try_into().expect("eight bytes"));
        usize::try_from(position).expect("64 bits")
    };
    let length = || usize::try_from(number(body, 16)).expect("64 bits");
    Some(Ok(match opcode {
        FORGET | INTERRUPT => return None,
        INIT => init(),
        GETATTR | SETATTR => attributes(content.safe.len()),
        OPEN => [&[0; 8], &DIRECT_IO.to_ne_bytes()[..], &[0; 4]].concat(),
        READ => content.read(position(), length()),
        WRITE => {
            content.write(position(), &body[40..40 + length()]);
            [number(body, 16).to_ne_bytes(), [0; 4]].concat()
        }
        FSYNC => {
            if let Some(events) = &mut content.events {
                events.push(Event::Flush);
            }
            Vec::new()
        }
        FLUSH | RELEASE | ACCESS | DESTROY => Vec::new(),
        _ => return Some(Err(NOT_IMPLEMENTED)),
    }))
}

fn init() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    let mut reply = Vec::new();
    let words = [7, 31, 128 << 10, BIG_WRITES, 0, MAX_WRITE, 1];
    reply.extend(words.iter().flat_map(|word: &u32| word.to_ne_bytes()));
    reply.resize(64, 0);
    reply
}

fn attributes(size: usize) -> Vec<u8> {
    const MODE: u32 = 0o100_600;
    let size = size as u64;
    let mut reply = vec![0; 16];
    for long in [1, size, size / 512, 0, 0, 0] {
        reply.extend(u64::to_ne_bytes(long));
    }
    for word in [0, 0, 0, MODE, 1, 0, 0, 0, 4096, 0] {
        reply.extend(u32::to_ne_bytes(word));
    }
    reply
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
