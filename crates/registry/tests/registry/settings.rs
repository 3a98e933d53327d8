//! What the settings of registries change.

use std::net::TcpListener;
use std::path::Path;

use oci::Reference;
use registry::{Access, Client, ClientError, ClientOptions, Remote, Settings};

use crate::fixture::{Counter, Shelf};
use crate::round_trips::{pull, push};
use crate::scripted::{Reply, Script, impatient, told, with_config};

fn client(settings: &str) -> Client {
    let settings = Settings::parse(settings, Path::new("registries.toml"));
    Client::new(ClientOptions {
        settings: settings.expect("valid"),
        ..impatient()
    })
}

fn remote(client: &Client, name: &str) -> Remote {
    let name = Reference::parse(name).expect("a name");
    client.repository(&name).expect("valid")
}

fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("bound").to_string()
}

#[test]
fn pulls_ask_the_mirrors_in_their_order_and_pushes_do_not() {
    let (near, far, origin) = (
        Counter::open(Access::PullOnly),
        Counter::open(Access::PullOnly),
        Counter::open(Access::PullAndPush),
    );
    let near_id = near.shelf.image("hub/team/app:near", &["near"]);
    let far_id = far.shelf.image("team/app:far", &["far"]);
    far.shelf.image("team/app:near", &["far too"]);
    let own_id = origin.shelf.image("team/app:own", &["own"]);
    for tag in ["near", "far"] {
        origin
            .shelf
            .image(&format!("team/app:{tag}"), &["of the registry"]);
    }
    let client = client(&format!(
        "[registry.\"{}\"]\nmirrors = [\"{}\", \"{}/hub\", \"{}\"]",
        origin.host(),
        nobody(),
        near.host(),
        far.host()
    ));
    let here = Shelf::new();
    for (tag, id) in [("near", near_id), ("far", far_id), ("own", own_id)] {
        let remote = remote(&client, &format!("{}/team/app:{tag}", origin.host()));
        assert_eq!(
            pull(&here.store, &remote, tag).expect("pulled"),
            id,
            "{tag}"
        );
    }
    let missing = remote(&client, &format!("{}/team/app:none", origin.host()));
    let error = pull(&here.store, &missing, "none").expect_err("nowhere");
    assert!(told(&error).contains(&origin.host()), "{}", told(&error));

    let id = here.image("new:1", &["new"]);
    let name = format!("{}/team/app:new", origin.host());
    push(&here.store, id, remote(&client, &name)).expect("pushed");
    let pushed = Reference::parse("team/app:new").expect("a name");
    assert_eq!(origin.shelf.store.tagged(&pushed).expect("read"), Some(id));
}

#[test]
fn a_mirror_with_wrong_content_is_left() {
    let origin = Counter::open(Access::PullOnly);
    let id = origin.shelf.image("team/app:1", &["one"]);
    let digest = origin.remote("team/app:1").head().expect("an answer");
    let digest = digest.expect("told").digest;
    let manifest = origin.ask(&format!("GET /v2/team/app/manifests/{digest}"), &[], b"");
    let document: serde_json::Value = serde_json::from_slice(&manifest.body).expect("json");
    let layer = &document["layers"][0];
    let path = format!(
        "GET /v2/team/app/blobs/{}",
        layer["digest"].as_str().expect("text")
    );
    let mut wrong = origin.ask(&path, &[], b"").body;
    wrong[700] ^= 1;
    let mirror = Script::start(move |_, asked| match asked.path() {
        path if path.contains("/manifests/") => Reply::manifest(&manifest.body),
        _ => Reply::new(200).body(&wrong),
    });
    let client = client(&format!(
        "[registry.\"{}\"]\nmirrors = [\"{}\"]",
        origin.host(),
        mirror.host()
    ));
    let here = Shelf::new();
    let remote = remote(&client, &format!("{}/team/app:1", origin.host()));
    assert_eq!(pull(&here.store, &remote, "app:1").expect("pulled"), id);
    assert!(mirror.lines().iter().any(|line| line.contains("/blobs/")));
}

#[test]
fn a_mirror_that_breaks_while_it_serves_is_left() {
    let origin = Counter::open(Access::PullOnly);
    let id = origin.shelf.image("team/app:1", &["one", "two"]);
    let direct = origin.remote("team/app:1");
    let digest = direct.head().expect("an answer").expect("told").digest;
    let manifest = origin.ask(&format!("GET /v2/team/app/manifests/{digest}"), &[], b"");
    let mirror = Script::start(move |_, asked| match asked.path().contains("/manifests/") {
        true => Reply::manifest(&manifest.body),
        false => Reply::new(500),
    });
    let client = client(&format!(
        "[registry.\"{}\"]\nmirrors = [\"{}\"]",
        origin.host(),
        mirror.host()
    ));
    let here = Shelf::new();
    let remote = remote(&client, &format!("{}/team/app:1", origin.host()));
    assert_eq!(pull(&here.store, &remote, "app:1").expect("pulled"), id);
    let blobs = mirror.lines();
    assert!(
        blobs.iter().any(|line| line.contains("/blobs/")),
        "{blobs:?}"
    );
}

#[test]
fn a_location_stands_in_for_the_registry() {
    let place = Counter::open(Access::PullAndPush);
    let client = client(&format!(
        "[registry.\"old.example\"]\nlocation = \"{}/of/old\"",
        place.host()
    ));
    let here = Shelf::new();
    let id = here.image("app:1", &["one"]);
    push(&here.store, id, remote(&client, "old.example/app:1")).expect("pushed");
    let stored = Reference::parse("of/old/app:1").expect("a name");
    assert_eq!(place.shelf.store.tagged(&stored).expect("read"), Some(id));
    let there = Shelf::new();
    let again = remote(&client, "old.example/app:1");
    assert_eq!(pull(&there.store, &again, "app:1").expect("pulled"), id);
    assert_eq!(again.tags().expect("tags"), ["1"]);
}

#[test]
fn a_blocked_registry_is_not_asked() {
    let script = Script::start(|_, _| Reply::new(200));
    let client = client(&format!("[registry.\"{}\"]\nblocked = true", script.host()));
    let name = Reference::parse(&format!("{}/a:1", script.host())).expect("a name");
    let error = client.repository(&name).expect_err("blocked");
    assert!(matches!(error, ClientError::Blocked(_)), "{error}");

    let table = format!("[registry.\"{}\"]\nblocked = true\n", script.host());
    let moved = format!(
        "[registry.\"old.example\"]\nlocation = \"{}\"",
        script.host()
    );
    let name = Reference::parse("old.example/a:1").expect("a name");
    let by_location = self::client(&format!("{table}{moved}"));
    let error = by_location.repository(&name).expect_err("blocked");
    assert!(matches!(error, ClientError::Blocked(_)), "{error}");

    let origin = Counter::open(Access::PullOnly);
    let id = origin.shelf.image("app:1", &["one"]);
    let (host, mirror) = (origin.host(), script.host());
    let mirrored = format!("[registry.\"{host}\"]\nmirrors = [\"{mirror}\"]");
    let by_mirror = self::client(&format!("{table}{mirrored}"));
    let here = Shelf::new();
    let remote = remote(&by_mirror, &format!("{host}/app:1"));
    assert_eq!(pull(&here.store, &remote, "app:1").expect("pulled"), id);
    assert!(script.lines().is_empty());
}

#[test]
fn a_mirror_gets_no_credentials_of_the_registry() {
    let mirror =
        Script::start(|_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"mirror\""));
    let origin = Script::start(|_, asked| match asked.header("Authorization") {
        Some(_) => Reply::error(404, "MANIFEST_UNKNOWN", "none"),
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"origin\""),
    });
    let auths = format!(
        r#"{{"auths": {{"{}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#,
        origin.host()
    );
    let (_config, options) = with_config(&auths);
    let settings = format!(
        "[registry.\"{}\"]\nmirrors = [\"{}\"]",
        origin.host(),
        mirror.host()
    );
    let settings = Settings::parse(&settings, Path::new("registries.toml"));
    let client = Client::new(ClientOptions {
        settings: settings.expect("valid"),
        ..options
    });
    let here = Shelf::new();
    let remote = remote(&client, &format!("{}/team/app:1", origin.host()));
    pull(&here.store, &remote, "app:1").expect_err("not there");
    assert!(!mirror.asked().is_empty());
    for asked in mirror.asked() {
        assert_eq!(asked.header("Authorization"), None);
    }
    let known = |asked: &crate::scripted::Asked| asked.header("Authorization").is_some();
    assert!(origin.asked().iter().any(known));
}
