//! What strata copies without its store.

use crate::place::{Place, output};
use crate::registry::Registry;

#[test]
fn privileged_a_manifest_list_goes_from_place_to_place_as_it_is() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let source = place.store("source");
    let list = registry.push_list(&place, &source, &["amd64", "arm64"]);
    let digest = place.manifest_digest(&list);
    let copier = place.store("copier");
    let copy = |from: &str, to: &str| copier.run(&["copy", "-q", from, to]);

    let layout = format!("oci:{}:of/list:1", place.text("layout"));
    assert_eq!(copy(&registry.reference("list:1"), &layout), digest);
    assert_eq!(place.manifest_digest(&layout), digest);
    let beside = registry.reference("beside:1");
    assert_eq!(copy(&registry.reference("list:1"), &beside), digest);

    let served = place.store("served");
    let other = Registry::strata(&served, &["--allow-push"]);
    assert_eq!(copy(&layout, &other.reference("list:2")), digest);
    assert_eq!(place.manifest_digest(&other.transport("list:2")), digest);
    for (registry, name) in [(&registry, "beside:1"), (&other, "list:2")] {
        let places = [registry.transport(name), layout.clone()];
        for architecture in ["amd64", "arm64"] {
            let part = registry.reference(&format!("one:{architecture}"));
            let platform = format!("linux/{architecture}");
            let from = registry.reference(name);
            copier.run(&["copy", "--platform", &platform, &from, &part]);
            let part = registry.transport(&format!("one:{architecture}"));
            for place_of_list in &places {
                let arch = ["--override-arch", architecture, "inspect", "--config"];
                let expected = place.skopeo(&[&arch[..], &[place_of_list]].concat());
                let found = place.skopeo(&[&arch[..], &[&part]].concat());
                assert_eq!(found, expected, "{part} {place_of_list}");
            }
        }
    }
    assert!(!place.path("copier/root").exists(), "a store was made");
}

#[test]
fn privileged_archives_are_copied_to_a_registry() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let store = place.store_with_app("store");
    let id = store.id("app:1");
    let archive = place.text("both.tar");
    store.run(&["save", "-o", &archive, "app:1", "base:1"]);
    let from = format!("docker-archive:{archive}:app:1");
    let to = registry.reference("app:1");
    store.run(&["copy", &from, &to]);
    assert_eq!(place.image_id(&registry.transport("app:1")), id);
    let podman = place.text("podman.tar");
    place.podman(&[
        "import",
        "--quiet",
        &place.text("base.tar"),
        "localhost/own:1",
    ]);
    place.podman(&["save", "--quiet", "-o", &podman, "localhost/own:1"]);
    let to = registry.reference("own:1");
    store.run(&["copy", &format!("docker-archive:{podman}"), &to]);
    let own = place.image_id(&registry.transport("own:1"));
    assert_eq!(own, place.podman_id("localhost/own:1"));

    let plain = format!("docker-archive:{archive}");
    let missing = format!("docker-archive:{archive}:none");
    let by_digest = registry.reference(&format!("app@{id}"));
    let full = format!("oci:{}", place.text("home"));
    for (from, to, said) in [
        (plain.as_str(), to.as_str(), "app:1"),
        (&missing, &to, "no image `none`: there are app:1, base:1"),
        (&from, &plain, "is there already"),
        (&from, &by_digest, "follows from its content"),
        (&from, &full, "not an OCI layout"),
        (&from, "Upper", "invalid reference format"),
    ] {
        let failed = store.command(&["copy", from, to]).output().unwrap();
        let text = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(1), "{from} {to}: {text}");
        assert!(text.contains(said), "{from} {to}: {text}");
    }
    let whole = store.command(&["copy", "--help"]);
    assert!(output(whole).contains("SOURCE TARGET"));
}

#[test]
fn privileged_archives_that_are_copied_to_are_read_by_skopeo_and_podman() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let store = place.store_with_app("store");
    let name = registry.reference("app:1");
    store.run(&["tag", "app:1", &name]);
    store.run(&["push", &name]);
    let (docker, layout) = (place.text("docker.tar"), place.text("layout.tar"));
    let named = format!("docker-archive:{docker}:q.io/app:2");
    let id = store.run(&["copy", "-q", &name, &named]);
    assert_eq!(id, store.id("app:1"));
    let digest = store.run(&["copy", "-q", &name, &format!("oci-archive:{layout}:v1")]);
    assert_eq!(digest, place.manifest_digest(&registry.transport("app:1")));

    let layers = ["inspect", "--format", "{{.Layers}}"];
    let config = ["inspect", "--config"];
    let from = format!("docker-archive:{docker}");
    let expected = place.skopeo(&[&config[..], &[&registry.transport("app:1")]].concat());
    let found = place.skopeo(&[&config[..], &[&from]].concat());
    let rootfs = |config: &str| {
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        config["rootfs"].clone()
    };
    assert_eq!(rootfs(&found), rootfs(&expected));
    assert!(!place.skopeo(&[&layers[..], &[&from]].concat()).is_empty());
    let archive = format!("oci-archive:{layout}:v1");
    assert_eq!(place.manifest_digest(&archive), digest);
    let back = format!("docker://{}", registry.reference("back:1"));
    place.skopeo(&[
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        &archive,
        &back,
    ]);
    assert_eq!(place.manifest_digest(&registry.transport("back:1")), digest);

    place.podman(&["load", "--quiet", "-i", &docker]);
    assert_eq!(place.podman_id("q.io/app:2"), id);
    let other = place.store("other");
    let loaded = other.run(&["load", "-q", "-i", &docker]);
    assert_eq!(loaded, "Loaded image: q.io/app:2");
    assert_eq!(other.id("q.io/app:2"), id);
}
