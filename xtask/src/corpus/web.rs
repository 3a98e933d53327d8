//! A server on loopback, for the Dockerfiles that fetch.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

/// Serves the same few bytes under every path that does not end in `/404`.
#[derive(Debug)]
pub struct Web {
    address: String,
}

impl Web {
    /// Starts to serve, until this program ends.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who asked sees that an answer is not whole.
                thread::spawn(|| answer(stream).ok());
            }
        });
        Ok(Self { address })
    }

    /// Returns the address of the path `/`, without the slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut request = String::new();
    let mut lines = BufReader::new(stream.try_clone()?);
    lines.read_line(&mut request)?;
    let mut line = String::new();
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let (status, body) = match path.ends_with("/404") {
        true => ("404 Not Found", ""),
        false => ("200 OK", "served\n"),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{status}\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method != Some("HEAD") {
        stream.write_all(body.as_bytes())?;
    }
    Ok(())
}
