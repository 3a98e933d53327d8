//! What strata pushes.

use testkit::flat;

use crate::place::Place;
use crate::registry::Registry;

#[test]
fn privileged_an_image_comes_back_from_a_registry_as_it_went() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let store = place.store_with_app("store");
    let id = store.id("app:1");
    let layers = store.layers("app:1");
    let name = registry.reference("team/app:1");
    store.run(&["tag", "app:1", &name]);
    store.run(&["push", &name]);
    let digest = place.manifest_digest(&registry.transport("team/app:1"));
    let repo_digest = registry.reference(&format!("team/app@{digest}"));
    assert_eq!(place.image_id(&registry.transport("team/app:1")), id);
    assert_eq!(store.repo_digests(&name), [repo_digest.as_str()]);

    store.remove();
    store.run(&["pull", &name]);
    assert_eq!(store.id(&name), id);
    assert_eq!(store.layers(&name), layers);
    assert_eq!(store.repo_digests(&name), [repo_digest.as_str()]);
    let run = ["run", "--rm", "--network", "none", &name];
    assert_eq!(store.run(&run), "built");
    let release = store.run(&[&run[..], &["cat", "/etc/os-release"]].concat());
    assert_eq!(release, "ID=peers\nNAME=\"Peers\"");

    let other = registry.reference("other/copy:2");
    store.run(&["tag", &name, &other]);
    store.run(&["push", &other]);
    assert_eq!(
        place.manifest_digest(&registry.transport("other/copy:2")),
        digest
    );
}

#[test]
fn privileged_an_image_can_be_pulled_by_its_digest() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let store = place.store_with_app("store");
    let name = registry.reference("app:1");
    store.run(&["tag", "app:1", &name]);
    store.run(&["push", &name]);
    let repo_digest = store.repo_digests(&name).remove(0);
    let second = place.store("second");
    second.run(&["pull", &repo_digest]);
    assert_eq!(second.id(&repo_digest), store.id("app:1"));
}

#[test]
fn privileged_podman_pulls_and_runs_what_strata_pushed() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let store = place.store_with_app("store");
    let name = registry.reference("app:1");
    store.run(&["tag", "app:1", &name]);
    store.run(&["push", &name]);
    place.podman(&["pull", "--quiet", &name]);
    assert_eq!(place.podman_id(&name), store.id("app:1"));
    assert_eq!(place.podman_run(&name, &[]), "built");
    let cat = ["cat", "/etc/os-release"];
    assert_eq!(place.podman_run(&name, &cat), "ID=peers\nNAME=\"Peers\"");
    let (ours, theirs) = (place.path("ours.tar"), place.path("theirs.tar"));
    store.run(&["save", "-o", ours.to_str().unwrap(), "app:1"]);
    let save = ["save", "--quiet", "--format", "docker-archive", "-o"];
    place.podman(&[&save[..], &[theirs.to_str().unwrap(), &name]].concat());
    let (ours, theirs) = (flat::read(&ours), flat::read(&theirs));
    assert_eq!(ours.config, theirs.config);
    assert_eq!(flat::differences(&ours, &theirs), [""; 0]);
}

#[test]
fn privileged_layers_are_compressed_as_asked_and_podman_runs_them() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let store = place.store_with_app("store");
    let mut digests = Vec::new();
    for (compression, media_type) in [
        ("zstd", "tar+zstd"),
        ("zstd:9", "tar+zstd"),
        ("gzip:9", "tar+gzip"),
        ("gzip", "tar+gzip"),
    ] {
        let tag = compression.replace(':', "-");
        let name = registry.reference(&format!("app:{tag}"));
        store.run(&["tag", "app:1", &name]);
        store.run(&["push", "--compression", compression, &name]);
        let transport = registry.transport(&format!("app:{tag}"));
        let raw = place.skopeo(&["inspect", "--tls-verify=false", "--raw", &transport]);
        assert_eq!(raw.matches(media_type).count(), 3, "{compression}: {raw}");
        assert_eq!(place.podman_run(&name, &[]), "built");
        digests.push(place.manifest_digest(&transport));
        // The same compression gives the same image again, from another store too.
        let second = place.store(&tag);
        second.run(&["pull", &name]);
        let other = registry.reference(&format!("other:{tag}"));
        second.run(&["tag", &name, &other]);
        second.run(&["push", "--compression", compression, &other]);
        let transport = registry.transport(&format!("other:{tag}"));
        assert_eq!(place.manifest_digest(&transport), *digests.last().unwrap());
    }
    assert_ne!(digests[0], digests[1]);
    assert_eq!(digests[2], digests[3], "gzip is there already");
}

/// One image may come under several manifests: each name is pushed with its own, to a registry
/// that has nothing of it, although the layers were fetched once.
#[test]
fn privileged_each_name_is_pushed_with_the_manifest_that_it_came_with() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let source = place.store_with_app("source");
    let store = place.store("store");
    let mut digests = Vec::new();
    for compression in ["gzip", "zstd"] {
        let name = registry.reference(&format!("app:{compression}"));
        source.run(&["tag", "app:1", &name]);
        source.run(&["push", "--compression", compression, &name]);
        store.run(&["pull", &name]);
        let transport = registry.transport(&format!("app:{compression}"));
        digests.push(place.manifest_digest(&transport));
    }
    assert_ne!(digests[0], digests[1]);
    let template = "{{.Tag}} {{.Digest}}";
    let listed = store.run(&["images", "--digests", "--format", template]);
    for tag in ["gzip", "zstd"] {
        for digest in &digests {
            assert!(listed.contains(&format!("{tag} {digest}")), "{listed}");
        }
    }
    let other = Registry::strata(&place.store("server"), &["--allow-push"]);
    for (compression, digest) in ["gzip", "zstd"].iter().zip(&digests) {
        let from = registry.reference(&format!("app:{compression}"));
        store.run(&["push", &from]);
        let transport = registry.transport(&format!("app:{compression}"));
        assert_eq!(place.manifest_digest(&transport), *digest);
        let to = other.reference(&format!("app:{compression}"));
        store.run(&["tag", &from, &to]);
        store.run(&["push", &to]);
    }
    // A new name has the manifest of the name that it was given beside.
    for (compression, digest) in ["gzip", "zstd"].iter().zip(&digests) {
        let transport = other.transport(&format!("app:{compression}"));
        assert_eq!(place.manifest_digest(&transport), *digest, "{compression}");
    }
}
