//! A server that answers what it is told to, without a look at the question.

use std::collections::VecDeque;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The longest request that is waited for.
const MAX_REQUEST: usize = 1 << 20;

const NOTHING: &[u8] = b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n";

/// The one server of this process.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) port: u16,
    answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl Script {
    /// Returns the server; the first call starts it, in a network without anything else: where an
    /// answer leads, nobody must be asked.
    pub(crate) fn get() -> &'static Self {
        static SCRIPT: OnceLock<Script> = OnceLock::new();
        SCRIPT.get_or_init(|| {
            sys::unshare_network().expect("root");
            sys::bring_up_loopback().expect("root");
            let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a port");
            let port = listener.local_addr().expect("bound").port();
            let answers: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
            let queue = Arc::clone(&answers);
            std::thread::spawn(move || {
                for connection in listener.incoming().flatten() {
                    let queue = Arc::clone(&queue);
                    // A client may keep one answer open while it asks for the next.
                    std::thread::spawn(move || serve(connection, &queue));
                }
            });
            Self { port, answers }
        })
    }

    /// Sets what the next requests are answered; later ones find nothing.
    pub(crate) fn answer(&self, answers: impl Iterator<Item = Vec<u8>>) {
        let mut queue = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *queue = answers.collect();
    }
}

/// What a client that has gone away did not hear is none of our concern.
fn serve(mut connection: TcpStream, answers: &Mutex<VecDeque<Vec<u8>>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while request.len() < MAX_REQUEST && !is_whole(&request) {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    let next = answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front();
    connection.write_all(next.as_deref().unwrap_or(NOTHING))?;
    connection.shutdown(Shutdown::Write)?;
    // Closing before the client has read would throw away what it did not read yet.
    while connection.read(&mut buffer)? > 0 {}
    Ok(())
}

fn is_whole(request: &[u8]) -> bool {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| {
        let value = line.strip_prefix("content-length:")?;
        value.trim().parse::<usize>().ok()
    });
    request.len() >= end + 4 + length.unwrap_or(0)
}
