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
    passed: Arc<AtomicU64>,
}

/// What the connections share.
struct Way {
    /// Where it leads.
    server: Mutex<SocketAddr>,
    passed: Arc<AtomicU64>,
    /// `None` once it has broken.
    limit: Mutex<Option<u64>>,
    broken: Box<dyn Fn(&mut SocketAddr) + Send + Sync>,
}

impl Brittle {
    /// `broken` is called when it has broken, before anything else passes; it may lead the way
    /// elsewhere.
    pub(crate) fn new(
        server: &str,
        after: u64,
        broken: impl Fn(&mut SocketAddr) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let passed = Arc::<AtomicU64>::default();
        let addr = listener.local_addr().expect("bound");
        let way = Arc::new(Way {
            server: Mutex::new(server.parse().expect("an address")),
            passed: passed.clone(),
            limit: Mutex::new(Some(after)),
            broken: Box::new(broken),
        });
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, way) = (client.expect("a connection"), way.clone());
                std::thread::spawn(move || way.bring(client));
            }
        });
        Self { addr, passed }
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

impl Way {
    /// Passes on what a client sends, and what it is answered.
    fn bring(&self, mut client: TcpStream) {
        let addr = *self.server.lock().expect("not poisoned");
        let mut there = TcpStream::connect(addr).expect("the server listens");
        let (mut from, mut to) = (
            there.try_clone().expect("a handle"),
            client.try_clone().expect("a handle"),
        );
        std::thread::spawn(move || {
            drop(std::io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Both));
        });
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            if there.write_all(&buffer[..count]).is_err() {
                break;
            }
            let bytes = u64::try_from(count).expect("short");
            let all = self.passed.fetch_add(bytes, Ordering::Relaxed) + bytes;
            let limit = &mut *self.limit.lock().expect("not poisoned");
            if limit.is_some_and(|limit| all >= limit) {
                *limit = None;
                let mut server = self.server.lock().expect("not poisoned");
                drop(there.shutdown(Shutdown::Write));
                drop(client.shutdown(Shutdown::Both));
                (self.broken)(&mut server);
                return;
            }
        }
        drop(there.shutdown(Shutdown::Write));
    }
}
