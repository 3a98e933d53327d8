//! Archives: saved by one, loaded by the other.

use oci::Digest;

use crate::made;
use crate::place::{Place, output};
use crate::registry::Registry;

#[test]
fn privileged_archives_made_by_skopeo_load_with_the_same_id() {
    let place = Place::new();
    let registry = Registry::docker(&place);
    let source = place.store_with_app("source");
    let name = registry.reference("app:1");
    source.run(&["tag", "app:1", &name]);
    source.run(&["push", &name]);
    let from = registry.transport("app:1");
    for (transport, target) in [
        ("docker-archive", "docker.tar"),
        ("oci-archive", "oci.tar"),
        ("oci", "layout"),
    ] {
        let path = place.text(target);
        let to = format!("{transport}:{path}:localhost/{transport}:1");
        place.skopeo(&["copy", "--quiet", &from, &to]);
        if transport == "oci" {
            let tar = place.text("layout.tar");
            output(place.command("tar", &["-C", &path, "-cf", &tar, "."]));
        }
        let file = place.text(target.trim_end_matches(".tar")) + ".tar";
        let store = place.store(transport);
        let said = store.run(&["load", "-i", &file]);
        assert_eq!(said, format!("Loaded image: localhost/{transport}:1"));
        let name = format!("localhost/{transport}:1");
        let read = format!("{transport}:{path}:{name}");
        let read = if transport == "docker-archive" {
            format!("{transport}:{path}")
        } else {
            read
        };
        assert_eq!(store.id(&name), place.image_id(&read), "{transport}");
        assert_eq!(store.id(&name), source.id("app:1"), "{transport}");
        assert_eq!(
            store.run(&["run", "--rm", "--network", "none", &name]),
            "built"
        );
    }
}

#[test]
fn privileged_archives_saved_by_podman_load_with_the_same_id() {
    for format in ["docker-archive", "oci-archive"] {
        let place = Place::new();
        let source = place.store_with_app("source");
        let theirs = place.text("theirs.tar");
        source.run(&["save", "-o", &theirs, "app:1"]);
        place.podman(&["load", "--quiet", "-i", &theirs]);
        let id = place.podman_id("app:1");
        assert_eq!(id, source.id("app:1"));
        let saved = place.text("saved.tar");
        place.podman(&["save", "--quiet", "--format", format, "-o", &saved, "app:1"]);
        let store = place.store("store");
        let said = store.run(&["load", "-i", &saved]);
        assert_eq!(said, "Loaded image: app:1", "{format}");
        assert_eq!(store.id("app:1"), id, "{format}");
        assert_eq!(store.layers("app:1"), source.layers("app:1"), "{format}");
    }
}

#[test]
fn privileged_archives_of_podmans_own_images_load_with_the_same_id() {
    let place = Place::new();
    let tar = place.text("base.tar");
    place.podman(&[
        "import",
        "--quiet",
        "--change",
        "CMD /bin/sh",
        &tar,
        "localhost/own:1",
    ]);
    let saved = place.text("saved.tar");
    place.podman(&[
        "save",
        "--quiet",
        "--format",
        "oci-archive",
        "-o",
        &saved,
        "localhost/own:1",
    ]);
    let store = place.store("store");
    store.run(&["load", "-i", &saved]);
    assert_eq!(
        store.id("localhost/own:1"),
        place.podman_id("localhost/own:1")
    );
}

#[test]
fn privileged_what_strata_saves_is_read_as_any_kind_of_archive() {
    let place = Place::new();
    let store = place.store_with_app("store");
    let saved = place.text("saved.tar");
    store.run(&["save", "-o", &saved, "app:1"]);
    let id = store.id("app:1");
    let layout = place.text("layout");
    output(place.command("mkdir", &[&layout]));
    output(place.command("tar", &["-C", &layout, "-xf", &saved]));
    for transport in [
        format!("docker-archive:{saved}"),
        format!("oci-archive:{saved}"),
        format!("oci:{layout}"),
    ] {
        assert_eq!(place.image_id(&transport), id, "{transport}");
        let layers = place.skopeo(&["inspect", "--config", &transport]);
        let config: serde_json::Value = serde_json::from_str(&layers).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"],
            store.layers("app:1"),
            "{transport}"
        );
    }
    let loaded = place.podman(&["load", "--quiet", "-i", &saved]);
    assert_eq!(loaded, "Loaded image: docker.io/library/app:1");
    assert_eq!(place.podman_id("app:1"), id);
}

#[test]
fn privileged_several_images_are_saved_and_loaded_together() {
    let place = Place::new();
    let store = place.store_with_app("store");
    let saved = place.text("saved.tar");
    store.run(&["tag", "app:1", "app:second"]);
    store.run(&["save", "-o", &saved, "app:1", "app:second", "base:1"]);
    place.podman(&["load", "--quiet", "-i", &saved]);
    let second = place.store("second");
    second.run(&["load", "-q", "-i", &saved]);
    for name in ["app:1", "app:second", "base:1"] {
        assert_eq!(place.podman_id(name), store.id(name), "{name}");
        assert_eq!(second.id(name), store.id(name), "{name}");
    }
}

#[test]
fn privileged_podman_imports_and_runs_what_strata_exports() {
    let place = Place::new();
    let store = place.store_with_app("store");
    let script = "echo new > /app/new; ln /app/new /app/link; rm /app/told.txt; chmod 4755 /app";
    let run = [
        "run",
        "--name",
        "ex",
        "--network",
        "none",
        "app:1",
        "sh",
        "-c",
        script,
    ];
    store.run(&run);
    let tar = place.text("ex.tar");
    store.run(&["export", "-o", &tar, "ex"]);
    let list = output(place.command("tar", &["-tvf", &tar, "app"]));
    assert!(list.contains("drwsr-xr-x 0/0"), "{list}");
    assert!(list.contains(" app/new link to app/link"), "{list}");
    assert!(!list.contains("told.txt"), "{list}");
    place.podman(&["import", "--quiet", &tar, "localhost/ex:1"]);
    let cat = ["cat", "/app/new", "/app/built"];
    let told = place.podman_run("localhost/ex:1", &cat);
    assert_eq!(told, "new\nbuilt");
}

/// `FILE` is the archive, `LIST` a layout with an index of two images; buildah made the images.
const ARCHIVES: &[&str] = &[
    "podman save -q --format docker-archive -o FILE localhost/oci:amd64",
    "podman save -q --format docker-archive -o FILE localhost/docker:amd64",
    "podman save -q --format oci-archive -o FILE localhost/oci:amd64",
    "podman save -q --format oci-archive -o FILE localhost/docker:amd64",
    "buildah push -q localhost/oci:amd64 docker-archive:FILE:localhost/oci:amd64",
    "buildah push -q localhost/docker:amd64 docker-archive:FILE:localhost/docker:amd64",
    "buildah push -q localhost/oci:amd64 oci-archive:FILE:localhost/oci:amd64",
    "buildah manifest push -q --all localhost/list oci-archive:FILE:localhost/list:1",
    "skopeo copy -q containers-storage:localhost/oci:amd64 docker-archive:FILE:localhost/oci:1",
    "skopeo copy -q containers-storage:localhost/docker:amd64 oci-archive:FILE:localhost/own:1",
    "skopeo copy -q --dest-compress-format zstd containers-storage:localhost/oci:amd64 oci-archive:FILE:localhost/own:1",
    "skopeo copy -q --all oci:LIST oci-archive:FILE:localhost/list:1",
];

#[test]
fn privileged_archives_of_every_maker_load_copy_and_push_as_they_are() {
    let place = Place::new();
    made::build(&place);
    let registry = Registry::docker(&place);
    let list = place.text("list");
    let layout = format!("oci:{list}");
    place.podman(&["manifest", "push", "-q", "--all", "localhost/list", &layout]);
    for (number, command) in ARCHIVES.iter().enumerate() {
        let file = place.text(&format!("{number}.tar"));
        let words = command.replace("FILE", &file).replace("LIST", &list);
        let (program, words) = words.split_once(' ').unwrap();
        let words: Vec<&str> = words.split(' ').collect();
        match program {
            "podman" => drop(place.podman(&words)),
            program => drop(output(place.command(program, &words))),
        }
        let transport = if command.contains("oci-archive") {
            "oci-archive"
        } else {
            "docker-archive"
        };
        let archive = format!("{transport}:{file}");
        let config = place.skopeo(&["inspect", "--config", "--raw", &archive]);
        let id = Digest::of(config.as_bytes()).to_string();

        let store = place.store(&number.to_string());
        let said = store.run(&["load", "-i", &file]);
        let name = said.strip_prefix("Loaded image: ").unwrap();
        assert_eq!(store.id(name), id, "{command}");
        let (pushed, copied) = (format!("pushed:{number}"), format!("copied:{number}"));
        store.run(&["tag", name, &registry.reference(&pushed)]);
        store.run(&["push", &registry.reference(&pushed)]);
        store.run(&["copy", "-q", &archive, &registry.reference(&copied)]);
        for at in [&pushed, &copied] {
            if transport == "oci-archive" {
                let digest = place.manifest_digest(&archive);
                assert_eq!(registry.digest(at), digest, "{command}: {at}");
            } else {
                let found = place.image_id(&registry.transport(at));
                assert_eq!(found, id, "{command}: {at}");
            }
        }
    }
}
