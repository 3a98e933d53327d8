//! `strata registry serve`, used by others.

use crate::place::Place;
use crate::registry::Registry;

#[test]
fn privileged_a_served_store_is_pulled_by_anyone() {
    let place = Place::new();
    let store = place.store_with_app("store");
    let id = store.id("app:1");
    let registry = Registry::strata(&store, &[]);
    let name = registry.reference("app:1");
    let transport = registry.transport("app:1");
    assert_eq!(place.image_id(&transport), id);
    let digest = place.manifest_digest(&transport);

    let layout = format!("oci:{}:copy", place.text("layout"));
    place.skopeo(&["copy", "--quiet", &transport, &layout]);
    assert_eq!(place.image_id(&layout), id);
    place.podman(&["pull", "--quiet", &name]);
    assert_eq!(place.podman_id(&name), id);

    let second = place.store("second");
    second.run(&["pull", &name]);
    assert_eq!(second.id(&name), id);
    let repo_digest = registry.reference(&format!("app@{digest}"));
    assert_eq!(second.repo_digests(&name), [repo_digest]);
    let tags = place.skopeo(&["list-tags", &registry.transport("app")]);
    let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["1"]));
}

#[test]
fn privileged_others_push_into_a_served_store_when_they_may() {
    let place = Place::new();
    let source = place.store_with_app("source");
    let archive = place.text("app.tar");
    source.run(&["save", "-o", &archive, "app:1"]);
    let from = format!("docker-archive:{archive}");

    let closed = place.store("closed");
    let registry = Registry::strata(&closed, &[]);
    let to = registry.transport("pushed:1");
    let refused = place
        .command("skopeo", &["copy", "--quiet", &from, &to])
        .output();
    assert!(!refused.unwrap().status.success());
    assert_eq!(closed.run(&["images", "-q"]), "");

    let open = place.store("open");
    let registry = Registry::strata(&open, &["--allow-push"]);
    place.skopeo(&["copy", "--quiet", &from, &registry.transport("by/skopeo:1")]);
    place.podman(&["load", "--quiet", "-i", &archive]);
    place.podman(&[
        "push",
        "--quiet",
        "app:1",
        &registry.reference("by/podman:1"),
    ]);
    let third = registry.reference("by/strata:1");
    source.run(&["tag", "app:1", &third]);
    source.run(&["push", &third]);
    for name in ["by/skopeo:1", "by/podman:1", "by/strata:1"] {
        let id = place.image_id(&registry.transport(name));
        assert_eq!(open.id(name), id, "{name}");
        let run = ["run", "--rm", "--network", "none", name];
        assert_eq!(open.run(&run), "built", "{name}");
    }
    assert_eq!(open.id("by/strata:1"), source.id("app:1"));
}
