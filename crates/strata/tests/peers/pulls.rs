//! What strata pulls.

use crate::place::Place;
use crate::registry::Registry;

#[test]
fn privileged_images_pushed_by_podman_keep_their_digests() {
    for (compression, format) in [("gzip", "oci"), ("gzip", "v2s2"), ("zstd", "oci")] {
        let place = Place::new();
        let registry = Registry::docker(&place);
        let tar = place.text("base.tar");
        place.podman(&[
            "import",
            "--quiet",
            "--change",
            "CMD /bin/sh",
            &tar,
            "localhost/own:1",
        ]);
        let name = registry.reference("own:1");
        let push = [
            "push",
            "--quiet",
            "--compression-format",
            compression,
            "--format",
            format,
        ];
        place.podman(&[&push[..], &["localhost/own:1", &name]].concat());
        let transport = registry.transport("own:1");
        let digest = place.manifest_digest(&transport);

        let store = place.store("store");
        store.run(&["pull", &name]);
        let case = format!("{compression} {format}");
        assert_eq!(store.id(&name), place.image_id(&transport), "{case}");
        if format == "oci" {
            assert_eq!(
                store.id(&name),
                place.podman_id("localhost/own:1"),
                "{case}"
            );
        }
        let repo_digest = registry.reference(&format!("own@{digest}"));
        assert_eq!(store.repo_digests(&name), [repo_digest], "{case}");
        let cat = [
            "run",
            "--rm",
            "--network",
            "none",
            &name,
            "cat",
            "/srv/owned",
        ];
        assert_eq!(store.run(&cat), "of web", "{case}");

        let again = registry.reference("again:1");
        store.run(&["tag", &name, &again]);
        store.run(&["push", &again]);
        let again = place.manifest_digest(&registry.transport("again:1"));
        assert_eq!(again, digest, "{case}");
    }
}

#[test]
fn privileged_a_manifest_list_gives_the_image_of_the_platform() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let source = place.store("source");
    let architectures = ["amd64", "arm64"];
    let list = registry.push_list(&place, &source, &architectures);
    let raw = place.skopeo(&["inspect", "--raw", &list]);
    assert!(raw.contains("manifests"), "{raw}");

    let name = registry.reference("list:1");
    let digest = place.manifest_digest(&list);
    let repo_digest = registry.reference(&format!("list@{digest}"));
    for architecture in architectures {
        let store = place.store(architecture);
        let platform = format!("linux/{architecture}");
        store.run(&["pull", "--platform", &platform, &name]);
        let part = registry.reference(&format!("part:{architecture}"));
        assert_eq!(store.id(&name), source.id(&part));
        assert_eq!(store.repo_digests(&name), [repo_digest.as_str()]);
        assert_eq!(store.inspect("{{.Architecture}}", &name), architecture);
    }
}
