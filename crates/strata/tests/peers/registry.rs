//! Registries on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread;

use oci::Digest;

use crate::place::Place;
use crate::strata::Strata;

/// bcrypt of `secret`.
const ALICE: &str = "alice:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// Every kind of manifest and index that is read.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// A running registry, which ends with the test.
pub(crate) struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    /// Starts Debian's docker-registry on a free port.
    pub(crate) fn docker(place: &Place) -> Self {
        Self::docker_in(place, "registry")
    }

    /// Starts it on the directory `storage` of the place.
    pub(crate) fn docker_in(place: &Place, storage: &str) -> Self {
        Self::docker_with(place, storage, "")
    }

    /// Starts it for the user `alice` with the password `secret` only.
    pub(crate) fn docker_for_users(place: &Place) -> Self {
        place.write("htpasswd", ALICE);
        let htpasswd = place.text("htpasswd");
        let auth = format!("auth: {{htpasswd: {{realm: peers, path: {htpasswd}}}}}\n");
        Self::docker_with(place, "registry", &auth)
    }

    fn docker_with(place: &Place, storage: &str, more: &str) -> Self {
        let storage = place.text(storage);
        let config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: peers}}\n{more}"
        );
        place.write("registry.yml", &config);
        let config = place.text("registry.yml");
        let mut command = place.command("docker-registry", &["serve", &config]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().unwrap();
        let address = address_in(log);
        Self { child, address }
    }

    /// Serves `store` by strata itself on a free port; `args` go to the command.
    pub(crate) fn strata(store: &Strata<'_>, args: &[&str]) -> Self {
        let words = [&["registry", "serve", "--addr", "127.0.0.1:0"], args].concat();
        let mut command = store.command(&words);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().unwrap();
        let address = address_in(log);
        Self { child, address }
    }

    /// Pushes an image for each architecture as `part:<architecture>`, and a manifest list of them
    /// as `list:1`, for which it returns skopeo's name.
    pub(crate) fn push_list(
        &self,
        place: &Place,
        store: &Strata<'_>,
        architectures: &[&str],
    ) -> String {
        let tar = place.text("base.tar");
        place.podman(&["manifest", "create", "localhost/list"]);
        for architecture in architectures {
            let platform = format!("linux/{architecture}");
            let part = format!("part:{architecture}");
            let name = self.reference(&part);
            let change = format!("LABEL of={architecture}");
            let import = ["import", "--platform", &platform, "-c", &change];
            store.run(&[&import[..], &[&tar, &name]].concat());
            store.run(&["push", &name]);
            place.podman(&["manifest", "add", "localhost/list", &self.transport(&part)]);
        }
        let list = self.transport("list:1");
        place.podman(&["manifest", "push", "--all", "localhost/list", &list]);
        list
    }

    /// Returns the manifest or index `of` (`repository:tag` or `repository@digest`), as it is here.
    pub(crate) fn manifest(&self, of: &str) -> Vec<u8> {
        let (repository, reference) = of.split_once('@').or_else(|| of.split_once(':')).unwrap();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "GET /v2/{repository}/manifests/{reference} HTTP/1.0\r\nAccept: {ACCEPT}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = answer.split_off(end.unwrap() + 4);
        assert!(answer.windows(5).any(|five| five == b" 200 "), "{of}");
        body
    }

    /// Returns the digest of the manifest or index at `of`.
    pub(crate) fn digest(&self, of: &str) -> String {
        Digest::of(&self.manifest(of)).to_string()
    }

    /// Returns `name` as a reference to this registry.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Returns `name` here as skopeo's transports write it.
    pub(crate) fn transport(&self, name: &str) -> String {
        format!("docker://{}", self.reference(name))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.unwrap();
    }
}

/// Returns the first loopback address that `log` names; what follows in it is read and dropped.
fn address_in(log: impl Read + Send + 'static) -> String {
    let mut lines = BufReader::new(log).lines();
    let mut seen = Vec::new();
    for line in &mut lines {
        let line = line.unwrap();
        if let Some(start) = line.find("127.0.0.1:") {
            let end = |c: char| !c.is_ascii_digit() && c != '.' && c != ':';
            let address = line[start..].split(end).next().unwrap().to_owned();
            thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
            return address;
        }
        seen.push(line);
    }
    panic!("the registry ended: {seen:#?}");
}
