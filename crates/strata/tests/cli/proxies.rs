//! The proxies that the environment names.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use testkit::cli::CommandLine;

use crate::strata;

/// A proxy that leads everything to one server, whatever host it is asked for. It ends with the
/// test's process.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (told, server) = (asked.clone(), server.to_owned());
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (told, server) = (told.clone(), server.clone());
                thread::spawn(move || relay(connection?, &server, &told));
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first line of each connection.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// Passes a connection on. A server takes requests as a proxy gets them, with the host in the
/// first line; `CONNECT` has an answer before anything is passed on.
fn relay(client: TcpStream, server: &str, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let line = head.lines().next().unwrap_or_default().to_owned();
    if line.is_empty() {
        // The client had no use for it after all.
        return Ok(());
    }
    let is_tunnel = line.starts_with("CONNECT ");
    asked.lock().expect("not poisoned").push(line);
    let mut server = TcpStream::connect(server)?;
    let mut client = client;
    match is_tunnel {
        true => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?,
        false => server.write_all(head.as_bytes())?,
    }
    let mut back = server.try_clone()?;
    thread::spawn(move || io::copy(&mut back, &mut client));
    let mut rest = reader.buffer().to_vec();
    server.write_all(&rest)?;
    reader.consume(rest.len());
    rest.resize(1 << 16, 0);
    loop {
        match reader.read(&mut rest)? {
            0 => return Ok(()),
            count => server.write_all(&rest[..count])?,
        }
    }
}

fn with_settings(text: &str) -> CommandLine {
    let strata = strata();
    let path = strata.path("registries.toml");
    std::fs::write(&path, text).expect("the file is writable");
    let path = path.to_str().expect("text").to_owned();
    strata.variable("STRATA_REGISTRIES", &path)
}

const PLAIN: &str = "[registry.\"registry.example\"]\nhttp = true\n";

#[test]
fn a_registry_is_reached_through_the_proxy_unless_it_is_excluded() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let proxy = Proxy::to(served.address());
    let name = "registry.example/app:1";
    let strata = with_settings(PLAIN).variable("HTTP_PROXY", &proxy.url());
    strata.import_small(name);
    strata.run(&["push", "-q", name]).succeeded();
    let asked = proxy.asked();
    let to_host = |line: &String| line.contains(" http://registry.example/v2/");
    assert!(!asked.is_empty() && asked.iter().all(to_host), "{asked:?}");

    // What is on this machine is never asked for at a proxy.
    let local = format!("{}/local:1", served.address());
    strata.import_small(&local);
    strata.run(&["push", "-q", &local]).succeeded();
    assert_eq!(proxy.asked().len(), asked.len());

    let excluded = with_settings(PLAIN)
        .variable("HTTP_PROXY", &proxy.url())
        .variable("NO_PROXY", ".example");
    let failed = excluded.run(&["pull", "-q", name]);
    assert_eq!(failed.code, 1, "{failed}");
    assert_eq!(proxy.asked().len(), asked.len());
}

#[test]
fn tls_goes_through_a_tunnel() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name).to_str().expect("text").to_owned();
    let (key, certificate) = (path("key"), path("certificate"));
    let made = std::process::Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x",
        ])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    // Port 0 is any; the program says which.
    let mut server = std::process::Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-www",
            "-key",
            &key,
            "-cert",
            &certificate,
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    let output = BufReader::new(server.stdout.take().expect("a pipe"));
    let line = output
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("ACCEPT "));
    let address = line.expect("an address")["ACCEPT ".len()..].to_owned();
    let proxy = Proxy::to(&address);
    let insecure = "[registry.\"registry.example\"]\ninsecure = true\n";
    let strata = with_settings(insecure).variable("HTTPS_PROXY", &proxy.url());
    // The page that openssl serves is no manifest, but it came through.
    let outcome = strata.run(&["pull", "-q", "registry.example/app:1"]);
    server.kill().expect("killed");
    server.wait().expect("ended");
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.stderr.contains("manifest"), "{outcome}");
    assert_eq!(proxy.asked(), ["CONNECT registry.example:443 HTTP/1.1"]);
}
