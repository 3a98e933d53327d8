//! A way to a server that can be made narrow, cut, and led elsewhere.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Which bytes are counted and held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// A way to a server on which only so many bytes pass, until more are allowed.
pub(crate) struct Throttle {
    pub(crate) address: String,
    server: Arc<Mutex<String>>,
    flow: Arc<Flow>,
}

#[derive(Default)]
struct Flow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    allowed: u64,
    passed: u64,
    /// How often the way was cut: connections of before are dead.
    cuts: u64,
}

impl Throttle {
    pub(crate) fn new(server: &str, way: Way, allowed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let throttle = Self {
            address: listener.local_addr().expect("an address").to_string(),
            server: Arc::new(Mutex::new(server.to_owned())),
            flow: Arc::default(),
        };
        throttle.allow(allowed);
        let (server, flow) = (throttle.server.clone(), throttle.flow.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let server = server.lock().expect("not poisoned").clone();
                let upstream = TcpStream::connect(&server).expect("the server listens");
                let both = || {
                    let client = client.try_clone().expect("a handle");
                    (client, upstream.try_clone().expect("a handle"))
                };
                let ((from_client, to_server), (to_client, from_server)) = (both(), both());
                let free = [(from_client, to_server), (from_server, to_client)];
                let [up, down] = free;
                let (free, held) = match way {
                    Way::ToServer => (down, up),
                    Way::ToClient => (up, down),
                };
                thread::spawn(move || {
                    let (mut from, mut to) = free;
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Both));
                });
                let flow = flow.clone();
                thread::spawn(move || flow.bring(held.0, held.1));
            }
        });
        throttle
    }

    /// Lets more bytes pass.
    pub(crate) fn allow(&self, more: u64) {
        self.flow.state.lock().expect("not poisoned").allowed += more;
        self.flow.changed.notify_all();
    }

    /// Waits until all bytes that are allowed have passed, less than one piece.
    pub(crate) fn exhaust(&self) {
        let state = self.flow.state.lock().expect("not poisoned");
        let state = self.flow.changed.wait_while(state, |state| {
            state.allowed >= u64::try_from(PIECE).expect("short")
        });
        drop(state.expect("not poisoned"));
    }

    /// Drops what is held back, with its connections. New ones lead to `server`.
    pub(crate) fn cut(&self, server: &str) {
        server.clone_into(&mut self.server.lock().expect("not poisoned"));
        self.flow.state.lock().expect("not poisoned").cuts += 1;
        self.flow.changed.notify_all();
    }

    /// Returns how many bytes have passed.
    pub(crate) fn passed(&self) -> u64 {
        self.flow.state.lock().expect("not poisoned").passed
    }
}

const PIECE: usize = 16 << 10;

impl Flow {
    fn bring(&self, mut from: TcpStream, mut to: TcpStream) {
        let cuts = self.state.lock().expect("not poisoned").cuts;
        let mut buffer = [0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = u64::try_from(count).expect("a length");
            let state = self.state.lock().expect("not poisoned");
            let waited = self
                .changed
                .wait_while(state, |state| state.allowed < bytes && state.cuts == cuts);
            let mut state = waited.expect("not poisoned");
            if state.cuts != cuts || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            state.allowed -= bytes;
            state.passed += bytes;
            drop(state);
            self.changed.notify_all();
        }
        drop(to.shutdown(Shutdown::Both));
        drop(from.shutdown(Shutdown::Both));
    }
}
