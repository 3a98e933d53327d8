//! Images for several platforms: `manifest`, `--all-platforms`, `--platform`.

use testkit::cli::CommandLine;
use testkit::tarball::{Member, Tarball};

use crate::strata;

/// Imports an image for a platform whose file says so. It needs a command to make a container of.
fn import(strata: &CommandLine, platform: &str, name: &str) {
    let tar = Tarball::new()
        .push(&Member::file("platform", platform.as_bytes()))
        .finish();
    strata.write("root.tar", &tar);
    let command = "CMD [\"/platform\"]";
    let words = [
        "import",
        "--platform",
        platform,
        "-c",
        command,
        "root.tar",
        name,
    ];
    strata.run(&words).succeeded();
}

/// Pushes images for two platforms and the index of both; returns the digest of the index.
pub(crate) fn push_both(strata: &CommandLine, repository: &str) -> String {
    let names = ["amd64", "arm64"].map(|word| format!("{repository}:{word}"));
    for (name, platform) in names.iter().zip(["linux/amd64", "linux/arm64"]) {
        import(strata, platform, name);
        strata.run(&["push", "-q", name]).succeeded();
    }
    let list = format!("{repository}:both");
    let made = strata.run(&["manifest", "create", &list, &names[0], &names[1]]);
    assert_eq!(made.stdout(), format!("Created manifest list {list}\n"));
    let pushed = strata.run(&["manifest", "push", "--purge", &list]).stdout();
    pushed.trim().to_owned()
}

/// Returns the digest that a name has at its registry.
fn digest_at(strata: &CommandLine, name: &str) -> String {
    let place = strata.work("layout");
    let target = format!("oci:{}", place.display());
    let digest = strata.run(&["copy", "-q", name, &target]).stdout();
    std::fs::remove_dir_all(place).expect("a layout");
    digest.trim().to_owned()
}

#[test]
fn an_index_is_pulled_and_pushed_whole_with_its_digest() {
    let (server, other_server) = (strata(), strata());
    let served = server.serve(&["--allow-push"]);
    let other = other_server.serve(&["--allow-push"]);
    let repository = format!("{}/team/app", served.address());
    let index = push_both(&strata(), &repository);
    let name = format!("{repository}:both");

    let strata = strata();
    let pulled = strata.run(&["pull", "--all-platforms", &name]).stdout();
    assert!(pulled.contains(&format!("Digest: {index}\n")), "{pulled}");
    let both = strata.run(&[
        "pull",
        "--all-platforms",
        "--platform",
        "linux/arm64",
        &name,
    ]);
    assert_eq!(
        both.to_string(),
        "[stderr]\nconflicting options: --all-platforms and --platform\n[exit 1]\n"
    );
    let shown = strata.run(&["images", "-a", "--format", "{{.Tag}}"]);
    assert_eq!(shown.stdout(), "both\n");

    // The other registry gets all of it, from the store alone.
    let elsewhere = format!("{}/mine:all", other.address());
    strata.run(&["tag", &name, &elsewhere]).succeeded();
    let pushed = strata.run(&["push", &elsewhere]).stdout();
    assert!(
        pushed.contains(&format!("all: digest: {index} size:")),
        "{pushed}"
    );
    assert_eq!(digest_at(&strata, &elsewhere), index);

    // One platform of it is a manifest of its own.
    let one = format!("{}/mine:arm64", other.address());
    strata.run(&["tag", &name, &one]).succeeded();
    strata
        .run(&["push", "-q", "--platform", "linux/arm64", &one])
        .succeeded();
    let arm64 = digest_at(&strata, &format!("{repository}:arm64"));
    assert_eq!(digest_at(&strata, &one), arm64);
    let absent = strata.run(&["push", "-q", "--platform", "linux/s390x", &one]);
    assert_eq!(
        absent.to_string(),
        "[stderr]\nno matching manifest for linux/s390x in the manifest list entries\n[exit 1]\n"
    );
    let compressed = strata.run(&["push", "--compression", "zstd", &one]);
    assert!(
        compressed
            .stderr
            .contains("is an index, which goes as it is"),
        "{compressed}"
    );

    // What nobody names any more goes, with all that it led to.
    for name in [&name, &elsewhere, &one] {
        strata.run(&["rmi", name]).succeeded();
    }
    strata.run(&["image", "prune", "-f"]).succeeded();
    let blobs = std::fs::read_dir(strata.path("root/blobs/sha256")).expect("blobs");
    assert_eq!(blobs.count(), 0);
}

#[test]
fn an_index_is_saved_and_loaded_whole() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let repository = format!("{}/app", served.address());
    let first = strata();
    let index = push_both(&first, &repository);
    let name = format!("{repository}:both");
    first
        .run(&["pull", "-q", "--all-platforms", &name])
        .succeeded();
    let id = first.run(&["inspect", "-f", "{{.Id}}", &name]).stdout();
    let archive = first.work("both.tar");
    let archive = archive.to_str().expect("a path");
    first.run(&["save", "-o", archive, &name]).succeeded();

    let whole = strata();
    whole.run(&["load", "-i", archive]).succeeded();
    assert_eq!(whole.run(&["inspect", "-f", "{{.Id}}", &name]).stdout(), id);
    let again = format!("{}/loaded:1", served.address());
    whole.run(&["tag", &name, &again]).succeeded();
    whole.run(&["push", "-q", &again]).succeeded();
    assert_eq!(digest_at(&whole, &again), index);
    whole.run(&["save", "-o", "again.tar", &name]).succeeded();
    let same = std::fs::read(whole.work("again.tar")).expect("an archive");
    assert!(same == std::fs::read(archive).expect("an archive"));

    let one = strata();
    let words = ["load", "--platform", "linux/arm64", "-i", archive];
    one.run(&words).succeeded();
    let architecture = one.run(&["inspect", "-f", "{{.Architecture}}", &name]);
    assert_eq!(architecture.stdout(), "arm64\n");
    let alone = format!("{}/loaded:arm64", served.address());
    one.run(&["tag", &name, &alone]).succeeded();
    one.run(&["push", "-q", &alone]).succeeded();
    let arm64 = digest_at(&one, &format!("{repository}:arm64"));
    assert_eq!(digest_at(&one, &alone), arm64);
}

#[test]
fn another_platform_of_a_kept_index_needs_no_registry() {
    let strata = strata();
    let (name, index) = {
        let server = crate::strata();
        let served = server.serve(&["--allow-push"]);
        let repository = format!("{}/app", served.address());
        let index = push_both(&crate::strata(), &repository);
        let name = format!("{repository}:both");
        strata
            .run(&["pull", "-q", "--all-platforms", &name])
            .succeeded();
        assert_eq!(digest_at(&strata, &name), index);
        (name, index)
    };
    for platform in ["arm64", "amd64"] {
        let wanted = format!("linux/{platform}");
        let created = strata.run(&["create", "--platform", &wanted, &name]);
        let container = created.stdout();
        let copied = strata.run(&["export", container.trim()]).stdout;
        assert!(
            copied.contains(&wanted),
            "the container is of another platform"
        );
        let architecture = strata.run(&["inspect", "-f", "{{.Architecture}}", &name]);
        assert_eq!(architecture.stdout(), format!("{platform}\n"));
        let digests = strata.run(&["inspect", "-f", "{{.RepoDigests}}", &name]);
        assert!(
            digests.stdout().contains(&index),
            "the tag keeps its digest"
        );
        strata.write(
            "Dockerfile",
            format!("FROM --platform={wanted} {name}\nLABEL a=b\n"),
        );
        strata.run(&["build", "-q", "-t", "built", "."]).succeeded();
        let built = strata.run(&["inspect", "-f", "{{.Architecture}}", "built"]);
        assert_eq!(built.stdout(), format!("{platform}\n"));
    }
}

#[test]
fn a_list_is_annotated_inspected_and_removed() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let strata = strata();
    let name = |path: &str| format!("{}/{path}", served.address());
    import(&strata, "linux/amd64", &name("one:1"));
    import(&strata, "linux/arm64", &name("two:1"));
    for image in [name("one:1"), name("two:1")] {
        strata.run(&["push", "-q", &image]).succeeded();
    }
    let list = name("both:1");
    let create = ["manifest", "create", &list, &name("one:1")];
    strata.run(&create).succeeded();
    assert_eq!(
        strata.run(&create).to_string(),
        "[stderr]\nrefusing to amend an existing manifest list with no --amend flag\n[exit 1]\n"
    );
    strata
        .run(&["manifest", "create", "--amend", &list, &name("two:1")])
        .succeeded();
    let words = [
        "--variant",
        "v8",
        "--os-features",
        "a,b",
        "--os-version",
        "1.2",
    ];
    let two = name("two:1");
    let annotate = [&["manifest", "annotate", &list, &two][..], &words].concat();
    strata.run(&annotate).succeeded();
    let shown = strata.run(&["manifest", "inspect", &list]).stdout();
    let index: serde_json::Value = serde_json::from_str(&shown).expect("json");
    assert!(
        shown.starts_with("{\n   \"schemaVersion\": 2,\n"),
        "{shown}"
    );
    assert_eq!(
        index["manifests"][1]["platform"].to_string(),
        "{\"architecture\":\"arm64\",\"os\":\"linux\",\"os.version\":\"1.2\",\"os.features\":[\"a\",\"b\"],\"variant\":\"v8\"}"
    );
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "amd64");

    // Images of other repositories of the registry are mounted there.
    let pushed = strata.run(&["manifest", "push", &list]).stdout();
    let lines: Vec<&str> = pushed.lines().collect();
    assert!(
        lines[0].starts_with(&format!("Pushed ref {}@sha256:", name("both"))),
        "{pushed}"
    );
    assert_eq!(digest_at(&strata, &list), lines[2]);
    let at_registry = strata.run(&["manifest", "rm", &list]);
    at_registry.succeeded();
    let again = strata.run(&["manifest", "inspect", &list]).stdout();
    assert_eq!(again, shown);
    let verbose = strata.run(&["manifest", "inspect", "-v", &list]).stdout();
    let all: serde_json::Value = serde_json::from_str(&verbose).expect("json");
    assert_eq!(all[1]["Descriptor"]["platform"]["variant"], "v8");
    assert!(all[1]["OCIManifest"]["layers"].is_array(), "{verbose}");

    for (words, expected) in [
        (
            &["manifest", "rm", "nosuch"][..],
            "No such manifest: docker.io/library/nosuch:latest".to_owned(),
        ),
        (
            &["manifest", "push", "nosuch"],
            "No such manifest: docker.io/library/nosuch:latest".to_owned(),
        ),
        (
            &["manifest", "annotate", "nosuch", "other", "--arch", "arm"],
            "manifest for image other:latest does not exist in nosuch:latest".to_owned(),
        ),
        (
            &["manifest", "create", "new", &name("three:1")],
            format!("no such manifest: {}", name("three:1")),
        ),
    ] {
        let outcome = strata.run(words);
        assert_eq!(
            outcome.to_string(),
            format!("[stderr]\n{expected}\n[exit 1]\n")
        );
    }
}

#[test]
fn an_index_is_taken_apart_into_another_list() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let strata = strata();
    let repository = format!("{}/app", served.address());
    push_both(&strata, &repository);
    let third = format!("{repository}:s390x");
    import(&strata, "linux/s390x", &third);
    strata.run(&["push", "-q", &third]).succeeded();
    let list = format!("{repository}:three");
    let both = format!("{repository}:both");
    strata
        .run(&["manifest", "create", &list, &both, &third])
        .succeeded();
    strata.run(&["manifest", "push", &list]).succeeded();
    let shown = strata.run(&["manifest", "inspect", &list]).stdout();
    let index: serde_json::Value = serde_json::from_str(&shown).expect("json");
    let manifests = index["manifests"].as_array().expect("manifests");
    let platforms: Vec<_> = manifests
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().expect("a word"))
        .collect();
    assert_eq!(platforms, ["amd64", "arm64", "s390x"]);
}
