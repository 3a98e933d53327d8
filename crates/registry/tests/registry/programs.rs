//! Other programs: Debian's docker-registry for our client, skopeo and podman for our server.
//! Tests are named after the program that they need.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use oci::{Descriptor, Digest, ImageId, MediaType, Platform, Reference};
use registry::{Access, Client, ClientOptions, Remote, Settings};
use store::{BlobOutcome, Source as _, Target as _};

use crate::fixture::{Counter, Shelf};
use crate::round_trips::{pull, push};
use crate::scripted::{blob, impatient, told, with_config};

/// `user` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Debian's docker-registry on a free port. Dropping it ends it.
pub(crate) struct Distribution {
    child: Child,
    pub(crate) host: String,
    _directory: tempfile::TempDir,
}

impl Distribution {
    /// Starts it with `extra` added to its configuration.
    pub(crate) fn start(extra: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().to_str().expect("text");
        let config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: text\nstorage:\n  filesystem:\n    \
             rootdirectory: {root}/blobs\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n{}",
            extra.replace("$ROOT", root)
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).expect("written");
        std::fs::write(directory.path().join("htpasswd"), HTPASSWD).expect("written");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let host = loop {
            let line = log.next().expect("it says where it listens").expect("text");
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(['"', ',', ' ']).unwrap_or(rest.len());
                break rest[..end].to_owned();
            }
        };
        // Its log must be read, or it stops at a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self {
            child,
            host,
            _directory: directory,
        }
    }

    pub(crate) fn remote(&self, name: &str, options: ClientOptions) -> Remote {
        let name = Reference::parse(&format!("{}/{name}", self.host)).expect("a name");
        Client::new(options).repository(&name).expect("valid")
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program that must succeed; returns what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program is installed");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes a certificate in `directory`, `name.pem`, and its key, `name.key`.
fn certificate(directory: &Path, name: &str, more: &[&str]) -> PathBuf {
    let file = |end: &str| directory.join(format!("{name}.{end}"));
    let (pem, key) = (file("pem"), file("key"));
    let common = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj";
    let subject = format!("/CN={name}");
    let out = [
        "-keyout",
        key.to_str().expect("text"),
        "-out",
        pem.to_str().expect("text"),
    ];
    let common: Vec<&str> = common.split(' ').chain([&*subject]).collect();
    run("openssl", &[&common, &out[..], more].concat());
    pem
}

#[test]
fn docker_registry_with_tls_is_reached_as_the_settings_say() {
    let place = tempfile::tempdir().expect("a directory");
    let ca = certificate(place.path(), "ca", &[]);
    let ca = ca.to_str().expect("text");
    let key = place.path().join("ca.key");
    let by_ca = ["-CA", ca, "-CAkey", key.to_str().expect("text"), "-addext"];
    let not_ca = "basicConstraints=critical,CA:FALSE";
    let for_server = [
        &by_ca[..],
        &[not_ca, "-addext", "subjectAltName=IP:127.0.0.1"],
    ]
    .concat();
    certificate(place.path(), "server", &for_server);
    certificate(place.path(), "client", &[&by_ca[..], &[not_ca]].concat());
    let path = |name: &str| place.path().join(name).to_str().expect("text").to_owned();
    let registry = Distribution::start(&format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas: [{ca}]\n",
        path("server.pem"),
        path("server.key")
    ));
    let table = format!("[registry.\"{}\"]\nhttp = false\n", registry.host);
    let pair = format!(
        "[[registry.\"{}\".keypair]]\nkey = \"{}\"\ncert = \"{}\"\n",
        registry.host,
        path("client.key"),
        path("client.pem")
    );
    let trust = format!("ca = [\"{ca}\"]\n");
    let missing = "ca = [\"/nowhere.pem\"]\n".to_owned();
    let no_pem = format!("ca = [\"{}\"]\n", path("ca.key"));
    let shelf = Shelf::new();
    let id = shelf.image("app:1", &["one"]);
    let attempt = |lines: &[&String]| {
        let text: String = lines.iter().map(|line| line.as_str()).collect();
        let settings = Settings::parse(&format!("{table}{text}"), Path::new("r.toml"));
        let options = ClientOptions {
            settings: settings.expect("valid"),
            ..impatient()
        };
        push(&shelf.store, id, registry.remote("app:1", options))
    };
    let insecure = "insecure = true\n".to_owned();
    attempt(&[&trust, &pair]).expect("pushed");
    attempt(&[&insecure, &pair]).expect("pushed");
    for (lines, said) in [
        (&[&pair][..], "certificate signed by unknown authority"),
        (&[&trust], "Get \"https://127.0.0.1"),
        (&[&missing, &pair], "cannot read `/nowhere.pem`"),
        (&[&no_pem, &pair], "no certificate in"),
    ] {
        let error = attempt(lines).expect_err("refused");
        assert!(told(&error).contains(said), "{}", told(&error));
    }
}

fn served_digest(remote: &Remote) -> String {
    let descriptor = remote.head().expect("an answer").expect("told");
    descriptor.digest.to_string()
}

#[test]
fn docker_registry_keeps_what_we_push() {
    let registry = Distribution::start("");
    let here = Shelf::new();
    let large = "x".repeat(3 << 20);
    let id = here.image("app:1", &["one", &large]);
    let remote = registry.remote("team/app:1", impatient());
    let (digest, outcomes) = push(&here.store, id, remote.clone()).expect("pushed");
    assert_eq!(outcomes, [BlobOutcome::Stored, BlobOutcome::Stored]);
    assert_eq!(served_digest(&remote), digest.to_string());

    let there = Shelf::new();
    assert_eq!(pull(&there.store, &remote, "app:1").expect("pulled"), id);
    assert_eq!(remote.tags().expect("tags"), ["1"]);
    let (_, outcomes) = push(&here.store, id, remote).expect("pushed");
    assert_eq!(outcomes, [BlobOutcome::Existed, BlobOutcome::Existed]);

    let by_digest = registry.remote(&format!("team/app@{digest}"), impatient());
    assert_eq!(
        by_digest.resolve().expect("there").descriptor.digest,
        digest
    );
}

#[test]
fn docker_registry_mounts_from_where_the_store_knows_a_layer_to_be() {
    let registry = Distribution::start("");
    let here = Shelf::new();
    let (bytes, descriptor) = blob(100_000);
    let open =
        |_| Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn std::io::Read + Send>);
    let first = registry.remote("team/first:1", impatient());
    first
        .put_blob(&descriptor, None, &open, &|_| {})
        .expect("stored");
    let blobs = [descriptor.clone()];
    first.record_origins(&here.store, &blobs).expect("recorded");
    let offer = |name: &str| {
        let remote = registry.remote(name, impatient());
        remote
            .offer_mounts(&here.store, &[descriptor.digest])
            .expect("read")
    };
    let outcome = offer("team/second:1").put_blob(&descriptor, None, &open, &|_| {});
    let from = "team/first".to_owned();
    assert_eq!(outcome.expect("mounted"), BlobOutcome::Mounted { from });

    // What the store remembers may be wrong by now: the session that comes instead is used.
    let (other, lost) = blob(50_000);
    let open =
        |_| Ok(Box::new(std::io::Cursor::new(other.clone())) as Box<dyn std::io::Read + Send>);
    let gone = registry.remote("team/gone:1", impatient());
    let blobs = [lost.clone()];
    gone.record_origins(&here.store, &blobs).expect("recorded");
    let third = registry.remote("team/third:1", impatient());
    let third = third
        .offer_mounts(&here.store, &[lost.digest])
        .expect("read");
    let outcome = third.put_blob(&lost, None, &open, &|_| {});
    assert_eq!(outcome.expect("stored"), BlobOutcome::Stored);
    assert!(third.has_blob(&lost, None).expect("an answer"));
}

#[test]
fn docker_registry_refuses_in_dockers_words() {
    let registry = Distribution::start("");
    let remote = registry.remote("team/app:1", impatient());
    let error = remote.resolve().expect_err("missing");
    assert_eq!(
        told(&error),
        format!(
            "manifest for {}/team/app:1 not found: manifest unknown: manifest unknown",
            registry.host
        )
    );
    let (_, descriptor) = blob(10);
    assert!(!remote.has_blob(&descriptor, None).expect("an answer"));
    let error = remote.tags().expect_err("missing");
    assert!(told(&error).starts_with(&format!("repository {}/team/app not found", registry.host)));
}

#[test]
fn docker_registry_refuses_a_blob_that_is_not_what_it_should_be() {
    let registry = Distribution::start("");
    let (bytes, mut descriptor) = blob(1000);
    descriptor.digest = Digest::of(b"other");
    let open =
        |_| Ok(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn std::io::Read + Send>);
    let remote = registry.remote("team/app:1", impatient());
    let error = remote
        .put_blob(&descriptor, None, &open, &|_| {})
        .expect_err("refused");
    assert!(
        told(&error).starts_with("digest invalid"),
        "{}",
        told(&error)
    );
}

#[test]
fn docker_registry_with_a_password_lets_only_its_user_in() {
    let registry =
        Distribution::start("auth:\n  htpasswd:\n    realm: test\n    path: $ROOT/htpasswd\n");
    let auth = base64::engine::general_purpose::STANDARD.encode("user:secret");
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host);
    let (_directory, options) = with_config(&config);
    let here = Shelf::new();
    let id = here.image("app:1", &["one"]);
    let remote = registry.remote("team/app:1", options);
    push(&here.store, id, remote.clone()).expect("pushed");
    assert_eq!(pull(&here.store, &remote, "app:2").expect("pulled"), id);

    let anonymous = registry.remote("team/app:1", impatient());
    let error = anonymous.resolve().expect_err("refused");
    assert_eq!(told(&error), "unauthorized: authentication required");
}

#[test]
fn skopeo_copies_from_us_and_back_with_the_same_digests() {
    let counter = Counter::open(Access::PullAndPush);
    let large = "x".repeat(3 << 20);
    let id = counter.shelf.image("app:1", &["one", &large]);
    let layout = format!("oci:{}:app", counter.shelf.path("layout"));
    let host = counter.host();
    let insecure = ["--insecure-policy", "copy", "--preserve-digests"];
    let from = format!("docker://{host}/app:1");
    let arguments = [&insecure[..], &["--src-tls-verify=false", &from, &layout]].concat();
    run("skopeo", &arguments);
    let there = Counter::open(Access::PullAndPush);
    let to = format!("docker://{}/team/app:2", there.host());
    let arguments = [&insecure[..], &["--dest-tls-verify=false", &layout, &to]].concat();
    run("skopeo", &arguments);
    assert_eq!(
        served_digest(&there.remote("team/app:2")),
        served_digest(&counter.remote("app:1"))
    );
    let pushed = there.shelf.store.resolve("team/app:2").expect("an image");
    assert_eq!(pushed.id, id);

    let plain = ["--tls-verify=false", to.as_str()];
    let digest = run(
        "skopeo",
        &[&["inspect", "--format", "{{.Digest}}"], &plain[..]].concat(),
    );
    assert_eq!(digest, served_digest(&there.remote("team/app:2")));
    let tags = run(
        "skopeo",
        &[
            "list-tags",
            "--tls-verify=false",
            &format!("docker://{}/team/app", there.host()),
        ],
    );
    assert!(tags.contains("\"2\""), "{tags}");
    run("skopeo", &[&["delete"], &plain[..]].concat());
    assert!(there.shelf.store.tags(None).expect("read").is_empty());
}

#[test]
fn skopeo_pushes_compressed_and_dockers_own_manifests() {
    let counter = Counter::open(Access::PullAndPush);
    let id = counter.shelf.image("app:1", &["one", "two"]);
    let host = counter.host();
    let there = Counter::open(Access::PullAndPush);
    for (format, kind) in [
        ("v2s2", MediaType::DOCKER_MANIFEST),
        ("oci", MediaType::OCI_MANIFEST),
    ] {
        let from = format!("docker://{host}/app:1");
        let to = format!("docker://{}/{format}:1", there.host());
        let directory = counter.shelf.path(format);
        let local = format!("dir:{directory}");
        let common = ["--insecure-policy", "copy", "--format", format];
        let out = ["--src-tls-verify=false", "--dest-compress", &from, &local];
        run("skopeo", &[&common[..], &out[..]].concat());
        let back = ["--dest-tls-verify=false", &local, &to];
        run("skopeo", &[&common[..], &back[..]].concat());
        let remote = there.remote(&format!("{format}:1"));
        let served = remote.resolve().expect("served");
        assert_eq!(served.descriptor.media_type.0, kind);
        let pushed = there.shelf.store.resolve(&format!("{format}:1"));
        let (pushed, built) = (
            pushed.expect("an image"),
            counter.shelf.store.image(&id).expect("read"),
        );
        assert_eq!(pushed.layers, built.expect("there").layers);
        let third = Shelf::new();
        assert_eq!(
            pull(&third.store, &remote, "x:1").expect("pulled"),
            pushed.id
        );
    }
}

#[test]
fn skopeo_copies_a_whole_index() {
    let counter = Counter::open(Access::PullAndPush);
    let foreign: Platform = "linux/s390x".parse().expect("a platform");
    let images: [(ImageId, &Platform); 2] = [
        (counter.shelf.image("a:1", &["one"]), &Platform::host()),
        (counter.shelf.image_for("b:1", &["two"], &foreign), &foreign),
    ];
    let entries: Vec<Descriptor> = images
        .iter()
        .map(|(id, platform)| {
            let (kind, bytes) = counter.shelf.store.manifest_of(id).expect("a manifest");
            let name = counter.remote("app:1");
            let mut entry = Descriptor::of(&kind.0, &bytes);
            entry.platform = Some((*platform).clone());
            let child = counter.remote(&format!("app@{}", entry.digest));
            child.put_manifest(&kind, &bytes).expect("kept");
            drop(name);
            entry
        })
        .collect();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries,
    });
    let kind = MediaType::from(MediaType::OCI_INDEX);
    let remote = counter.remote("app:1");
    remote
        .put_manifest(&kind, index.to_string().as_bytes())
        .expect("kept");

    let there = Counter::open(Access::PullAndPush);
    let from = format!("docker://{}/app:1", counter.host());
    let to = format!("docker://{}/app:1", there.host());
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &from,
            &to,
        ],
    );
    assert_eq!(
        served_digest(&there.remote("app:1")),
        served_digest(&remote)
    );
}

/// podman with a storage of its own.
fn podman(shelf: &Shelf, arguments: &[&str]) -> String {
    let (root, run_root) = (shelf.path("podman"), shelf.path("podman-run"));
    let own = [
        "--root",
        &root,
        "--runroot",
        &run_root,
        "--storage-driver",
        "vfs",
        "--cgroup-manager",
        "cgroupfs",
    ];
    run("podman", &[&own[..], arguments].concat())
}

#[test]
fn privileged_podman_pulls_from_us_and_pushes_back() {
    let counter = Counter::open(Access::PullAndPush);
    let id = counter.shelf.image("app:1", &["one", "two"]);
    let name = format!("{}/app:1", counter.host());
    let insecure = "--tls-verify=false";
    let pulled = podman(&counter.shelf, &["pull", "-q", insecure, &name]);
    assert_eq!(pulled, id.digest().hex());

    let there = Counter::open(Access::PullAndPush);
    let target = format!("{}/team/app:2", there.host());
    podman(&counter.shelf, &["push", "-q", insecure, &pulled, &target]);
    let remote = there.remote("team/app:2");
    let pushed = there.shelf.store.resolve("team/app:2").expect("an image");
    assert_eq!(pushed.id, id);
    let third = Shelf::new();
    assert_eq!(pull(&third.store, &remote, "x:1").expect("pulled"), id);

    podman(&counter.shelf, &["rmi", "-a", "-f"]);
    let again = podman(&counter.shelf, &["pull", "-q", insecure, &target]);
    assert_eq!(again, id.digest().hex());
}
