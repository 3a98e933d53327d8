//! A little HTTP server that answers what a test tells it to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use oci::{Descriptor, Digest, MediaType, Reference};
use registry::{Client, ClientOptions, Remote, Retry};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Sends only so much of the body, then closes.
    cut: Option<usize>,
    /// Says nothing at all until the client gives up.
    silent: bool,
}

/// When a script answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// After the whole request.
    Patient,
    /// After the head of the request; the body is thrown away.
    Hasty,
}

/// A running script. Dropping it ends it.
pub(crate) struct Script {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn read_body(&mut self, reader: &mut BufReader<TcpStream>) -> std::io::Result<()> {
        let length = self
            .header("content-length")
            .and_then(|text| text.parse().ok());
        self.body.resize(length.unwrap_or(0), 0);
        reader.read_exact(&mut self.body)
    }
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            silent: false,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// The length of the body.
    pub(crate) fn length(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn silent() -> Self {
        Self {
            silent: true,
            ..Self::new(200)
        }
    }

    pub(crate) fn json(status: u16, text: &str) -> Self {
        Self::new(status)
            .header("Content-Type", "application/json")
            .body(text.as_bytes())
    }

    /// An error document with one error.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(
            status,
            &format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#),
        )
    }

    pub(crate) fn manifest(bytes: &[u8]) -> Self {
        Self::new(200)
            .header("Content-Type", MediaType::OCI_MANIFEST)
            .body(bytes)
    }

    fn send(&self, connection: &mut TcpStream, head: bool) -> std::io::Result<()> {
        let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let told = self
            .headers
            .iter()
            .any(|(name, _)| matches!(name.as_str(), "Content-Length" | "Transfer-Encoding"));
        if !told {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        connection.write_all(text.as_bytes())?;
        if !head {
            connection.write_all(&self.body[..self.cut.unwrap_or(self.body.len())])?;
        }
        connection.flush()
    }
}

impl Script {
    /// Starts to answer: `respond` gets the number of the request and the request.
    pub(crate) fn start<F>(respond: F) -> Self
    where
        F: Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    {
        Self::with(Manners::Patient, respond)
    }

    /// Starts to answer before it has read the bodies of requests.
    pub(crate) fn hasty<F>(respond: F) -> Self
    where
        F: Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    {
        Self::with(Manners::Hasty, respond)
    }

    fn with<F>(manners: Manners, respond: F) -> Self
    where
        F: Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let respond = Arc::new(respond);
        let accepting = std::thread::spawn({
            let (asked, ended) = (asked.clone(), ended.clone());
            move || {
                for connection in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(connection) = connection else { continue };
                    let (asked, respond) = (asked.clone(), respond.clone());
                    std::thread::spawn(move || {
                        // A client that goes away in the middle is part of the tests.
                        drop(converse(connection, manners, &asked, respond.as_ref()));
                    });
                }
            }
        });
        Self {
            addr,
            asked,
            ended,
            accepting: Some(accepting),
        }
    }

    /// Answers `replies` in turn, the last one again and again.
    pub(crate) fn in_turn(replies: Vec<Reply>) -> Self {
        Self::start(move |number, _| replies[number.min(replies.len() - 1)].clone())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }

    pub(crate) fn host(&self) -> String {
        self.addr.to_string()
    }

    /// The repository `team/app` of this registry, tag 1, for an impatient client.
    pub(crate) fn remote(&self) -> Remote {
        self.remote_with(impatient(), "team/app:1")
    }

    pub(crate) fn remote_with(&self, options: ClientOptions, name: &str) -> Remote {
        let name = format!("{}/{name}", self.addr);
        let reference = Reference::parse(&name).expect("a name");
        Client::new(options)
            .repository(&reference)
            .expect("a repository")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.addr));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the script ran");
        }
    }
}

fn converse<F>(
    connection: TcpStream,
    manners: Manners,
    asked: &Mutex<Vec<Asked>>,
    respond: &F,
) -> std::io::Result<()>
where
    F: Fn(usize, &Asked) -> Reply,
{
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut request = read_head(&mut reader)?;
    if manners == Manners::Patient {
        request.read_body(&mut reader)?;
    }
    let number = {
        let mut asked = asked.lock().expect("not poisoned");
        asked.push(request.clone());
        asked.len() - 1
    };
    let mut connection = connection;
    let reply = respond(number, &request);
    if reply.silent {
        reader.read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    reply.send(&mut connection, request.method == "HEAD")?;
    connection.shutdown(Shutdown::Write)?;
    // What is left unread at the end would make the system break the connection at once.
    std::io::copy(&mut reader, &mut std::io::sink())?;
    Ok(())
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next(), words.next());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    Ok(Asked {
        method: method.unwrap_or_default(),
        target: target.unwrap_or_default(),
        headers,
        body: Vec::new(),
    })
}

/// Options with short pauses, so that no test waits.
pub(crate) fn impatient() -> ClientOptions {
    ClientOptions {
        retry: Retry {
            attempts: 3,
            pause: Duration::from_millis(1),
            longest_pause: Duration::from_secs(1),
        },
        ..ClientOptions::default()
    }
}

/// Options with a docker configuration that holds `config`.
pub(crate) fn with_config(config: &str) -> (tempfile::TempDir, ClientOptions) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("config.json"), config).expect("written");
    let options = ClientOptions {
        docker_config: Some(directory.path().to_owned()),
        ..impatient()
    };
    (directory, options)
}

/// Bytes that differ at every place, and a blob descriptor of them.
pub(crate) fn blob(length: usize) -> (Vec<u8>, Descriptor) {
    let period: Vec<u8> = (0_u8..251).collect();
    let mut bytes = period.repeat(length / period.len() + 1);
    bytes.truncate(length);
    let descriptor = Descriptor::of(MediaType::OCI_LAYER, &bytes);
    (bytes, descriptor)
}

/// A manifest, and its digest.
pub(crate) fn manifest() -> (Vec<u8>, Digest) {
    let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
    let bytes = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#,
        serde_json::to_string(&config).expect("a document")
    )
    .into_bytes();
    let digest = Digest::of(&bytes);
    (bytes, digest)
}

/// An error and its sources, as the command line prints them.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
