//! A store with an image in it, and our server over it.

use std::error::Error;
use std::io::{Cursor, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use flate2::read::MultiGzDecoder;
use oci::{DiffId, Digest, Hasher, ImageConfig, ImageId, Platform, Reference};
use registry::{Access, Client, Server, ServerOptions};
use store::{NewImage, NewLayer, Store};

use crate::scripted::impatient;

/// A store in a directory of its own.
pub(crate) struct Shelf {
    pub(crate) store: Store,
    directory: tempfile::TempDir,
}

/// Our server over a shelf.
pub(crate) struct Counter {
    pub(crate) server: Option<Server>,
    pub(crate) shelf: Shelf,
    failures: Arc<Mutex<Vec<String>>>,
    addr: SocketAddr,
}

/// An answer to a request that was written by hand.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        Self { store, directory }
    }

    /// A place for files of the test.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().expect("text").to_owned()
    }

    /// Makes an image with a layer for each of `contents` and gives it `name`.
    pub(crate) fn image(&self, name: &str, contents: &[&str]) -> ImageId {
        self.image_for(name, contents, &Platform::host())
    }

    pub(crate) fn image_for(&self, name: &str, contents: &[&str], platform: &Platform) -> ImageId {
        let mut config = ImageConfig::scratch(platform);
        for content in contents {
            config.rootfs.diff_ids.push(self.layer(content));
        }
        let image = NewImage {
            config: &config.to_bytes(),
            manifest: None,
            parent: None,
            times: &[],
        };
        let id = self.store.put_image(&image).expect("an image");
        let name = Reference::parse(name).expect("a name");
        self.store.tag(&name, &id, None).expect("tagged");
        id
    }

    fn layer(&self, content: &str) -> DiffId {
        let scratch = self.store.scratch().expect("a scratch");
        let layer = unpack(&mut Cursor::new(tar(content)), scratch.path()).expect("a layer");
        self.store.commit_layer(scratch, &layer).expect("stored");
        layer.diff_id
    }
}

impl Counter {
    pub(crate) fn open(access: Access) -> Self {
        Self::over(Shelf::new(), access)
    }

    pub(crate) fn over(shelf: Shelf, access: Access) -> Self {
        let failures = Arc::new(Mutex::new(Vec::new()));
        let server = serve(&shelf, access, &failures);
        let addr = server.addr();
        Self {
            server: Some(server),
            shelf,
            failures,
            addr,
        }
    }

    /// Stops the server and starts another one over the same store, for pushes, elsewhere.
    pub(crate) fn restart(&mut self) {
        let server = self.server.take().expect("running");
        server.stop().expect("stopped");
        let server = serve(&self.shelf, Access::PullAndPush, &self.failures);
        self.addr = server.addr();
        self.server = Some(server);
    }

    pub(crate) fn host(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) fn remote(&self, name: &str) -> registry::Remote {
        let name = format!("{}/{name}", self.addr);
        let name = Reference::parse(&name).expect("a name");
        Client::new(impatient()).repository(&name).expect("valid")
    }

    /// Sends one request, with `Connection: close`.
    pub(crate) fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        ask(&self.host(), line, headers, body)
    }

    /// Begins a request and breaks off.
    pub(crate) fn break_off(&self, line: &str, announced: usize, body: &[u8]) {
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n");
        let mut connection = TcpStream::connect(self.addr).expect("connected");
        connection.write_all(head.as_bytes()).expect("sent");
        connection.write_all(body).expect("sent");
    }
}

fn serve(shelf: &Shelf, access: Access, failures: &Arc<Mutex<Vec<String>>>) -> Server {
    let told = failures.clone();
    Server::start(ServerOptions {
        addr: "127.0.0.1:0".parse().expect("an address"),
        store: shelf.store.clone(),
        unpack: Arc::new(unpack),
        access,
        report: Arc::new(move |error| {
            told.lock()
                .expect("not poisoned")
                .push(crate::scripted::told(error));
        }),
    })
    .expect("a server")
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            drop(server);
        }
        if !std::thread::panicking() {
            let failures = self.failures.lock().expect("not poisoned");
            assert_eq!(*failures, [""; 0], "failures of the server itself");
        }
    }
}

/// Sends one request to a server, with `Connection: close`.
pub(crate) fn ask(host: &str, line: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut connection = TcpStream::connect(host).expect("connected");
    connection.write_all(head.as_bytes()).expect("sent");
    // A refusal may come before the whole body is taken.
    drop(connection.write_all(body));
    let mut answer = Vec::new();
    drop(connection.read_to_end(&mut answer));
    Answer::parse(&answer)
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a whole head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        Self {
            status: status.expect("a status"),
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The code of the first error.
    pub(crate) fn code(&self) -> String {
        let document: serde_json::Value =
            serde_json::from_slice(&self.body).expect("an error document");
        document["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// What stands for the unpacking of layers: it keeps the tar.
pub(crate) fn unpack(
    blob: &mut (dyn Read + Send),
    directory: &Path,
) -> Result<NewLayer, Box<dyn Error + Send + Sync>> {
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut tar = Vec::new();
        MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut tar)?;
        bytes = tar;
    }
    if bytes.len() % 512 != 0 {
        return Err("not a tar".into());
    }
    std::fs::write(directory.join("tar"), &bytes)?;
    let mut hasher = Hasher::new();
    hasher.update(&bytes);
    let size = u64::try_from(bytes.len())?;
    Ok(NewLayer {
        diff_id: DiffId(hasher.finish()),
        tar_size: size,
        content_size: size,
        entries: 1,
    })
}

/// A tar with one file.
pub(crate) fn tar(content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(content.len()).expect("short"));
    header.set_mode(0o644);
    let name = format!("f{}", &Digest::of(content.as_bytes()).short());
    builder
        .append_data(&mut header, name, content.as_bytes())
        .expect("appended");
    builder.into_inner().expect("a tar")
}
