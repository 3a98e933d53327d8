//! Servers of files and of git repositories, on loopback.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Gives files under their paths; everything else is not found.
pub(crate) struct FileServer {
    address: SocketAddr,
}

impl FileServer {
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        let files: Vec<(String, Vec<u8>)> = files
            .iter()
            .map(|(path, content)| ((*path).to_owned(), content.to_vec()))
            .collect();
        let address = serve(move |stream| {
            let mut request = String::new();
            let mut reader = BufReader::new(&stream);
            while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
            let path = request.split(' ').nth(1).unwrap_or_default();
            let found = files.iter().find(|(name, _)| name == path);
            let (status, content) = match found {
                Some((_, content)) => ("200 OK", content.as_slice()),
                None => ("404 Not Found", &b"nothing"[..]),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                content.len()
            );
            // A client may have seen enough.
            (&stream).write_all(head.as_bytes()).unwrap_or_default();
            (&stream).write_all(content).unwrap_or_default();
        });
        Self { address }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Gives the repositories in a directory to git.
pub(crate) struct GitServer {
    pub(crate) address: SocketAddr,
}

impl GitServer {
    pub(crate) fn start(directory: &Path) -> Self {
        let directory = directory.to_owned();
        let address = serve(move |stream| {
            let ends = [stream.try_clone(), Ok(stream)]
                .map(|end| Stdio::from(OwnedFd::from(end.expect("an open connection"))));
            let [input, output] = ends;
            let mut git = Command::new("git");
            git.args(["daemon", "--inetd", "--export-all"]);
            git.arg(format!("--base-path={}", directory.display()));
            let status = git
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "safe.directory")
                .env("GIT_CONFIG_VALUE_0", "*")
                .stdin(input)
                .stdout(output)
                .stderr(Stdio::null())
                .status();
            status.expect("git is installed");
        });
        Self { address }
    }
}

/// Answers connections on a thread that ends with the test.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.expect("a connection"));
        }
    });
    address
}
