//! A way to a server that breaks once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use oci::Reference;
use registry::{Client, Remote};

use crate::scripted::impatient;

/// A way to a server that breaks once so many bytes have gone there.
pub(crate) struct Brittle {
    addr: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    passed: Arc<AtomicU64>,
}

impl Brittle {
    /// `broken` is called when it has broken, before anything else passes.
    pub(crate) fn new(
        server: &str,
        after: u64,
        broken: impl Fn(&Mutex<SocketAddr>) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let way = Self {
            addr: listener.local_addr().expect("bound"),
            server: Arc::new(Mutex::new(server.parse().expect("an address"))),
            passed: Arc::default(),
        };
        let (server, passed) = (way.server.clone(), way.passed.clone());
        std::thread::spawn(move || {
            let mut whole = true;
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let addr = *server.lock().expect("not poisoned");
                let there = TcpStream::connect(addr).expect("the server listens");
                let limit = whole.then_some(after);
                let answers = std::thread::spawn({
                    let (mut from, mut to) = (
                        there.try_clone().expect("a handle"),
                        client.try_clone().expect("a handle"),
                    );
                    move || {
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(Shutdown::Both));
                    }
                });
                if bring(client, there, &passed, limit) {
                    whole = false;
                    broken(&server);
                }
                answers.join().expect("brought");
            }
        });
        way
    }

    pub(crate) fn remote(&self, name: &str) -> Remote {
        let name = format!("{}/{name}", self.addr);
        let name = Reference::parse(&name).expect("a name");
        Client::new(impatient()).repository(&name).expect("valid")
    }

    /// Returns how many bytes have gone to the server.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// Passes on what the client sends; tells whether the way broke.
fn bring(
    mut client: TcpStream,
    mut there: TcpStream,
    passed: &AtomicU64,
    limit: Option<u64>,
) -> bool {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if there.write_all(&buffer[..count]).is_err() {
            break;
        }
        let bytes = u64::try_from(count).expect("short");
        let all = passed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if limit.is_some_and(|limit| all >= limit) {
            drop(there.shutdown(Shutdown::Both));
            drop(client.shutdown(Shutdown::Both));
            return true;
        }
    }
    drop(there.shutdown(Shutdown::Both));
    drop(client.shutdown(Shutdown::Both));
    false
}
