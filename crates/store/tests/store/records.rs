//! Laws of the records: what is stored is found, and nothing else is.

use crate::fixture::{Fixture, config_with};
use oci::{DiffId, Digest, MediaType, Reference};
use store::{
    BuildRecord, BuildStatus, ContainerError, ContainerRecord, ContainerState, NewImage, Prune,
    Remains, ResolveError, StepFilter, StepRecord, StepScope, StoreError, Timestamp,
};

/// Prunes build steps only.
fn steps(filter: &StepFilter) -> Prune {
    Prune {
        steps: Some(filter.clone()),
        ..Prune::default()
    }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).expect("valid").or_latest()
}

#[test]
fn a_blob_is_found_under_its_digest_and_verified() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let media_type = MediaType::from("text/plain");
    let descriptor = store.put_blob(&media_type, b"hello").expect("stored");
    assert_eq!(descriptor.digest, Digest::of(b"hello"));
    assert_eq!(
        store.blob(&descriptor.digest).expect("read"),
        Some(descriptor.clone())
    );
    assert_eq!(
        store.read_blob(&descriptor.digest, 5).expect("read"),
        b"hello"
    );
    assert!(matches!(
        store.read_blob(&descriptor.digest, 4),
        Err(StoreError::BlobTooLarge {
            size: 5,
            limit: 4,
            ..
        })
    ));
    let path = store
        .root()
        .join("blobs/sha256")
        .join(descriptor.digest.hex());
    std::fs::write(path, b"jello").expect("written");
    assert!(matches!(
        store.read_blob(&descriptor.digest, 5),
        Err(StoreError::DamagedBlob { .. })
    ));
}

#[test]
fn a_layer_is_found_as_layer_and_as_blob() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = fixture.layer(&store, b"content of a tar");
    assert!(store.has_layer(&layer).expect("read"));
    assert!(store.layer_dir(&layer).join("tar").exists());
    assert_eq!(
        store.read_blob(layer.digest(), 100).expect("read"),
        b"content of a tar"
    );
    let other = DiffId(Digest::of(b"other"));
    assert!(!store.has_layer(&other).expect("read"));
}

#[test]
fn an_image_needs_all_its_layers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let missing = DiffId(Digest::of(b"missing"));
    let config = config_with(&[missing], "");
    let image = NewImage {
        config: &config,
        manifest: None,
        parent: None,
        times: &[],
    };
    assert!(matches!(
        store.put_image(&image),
        Err(StoreError::LayerNotFound(layer)) if layer == missing
    ));
    assert!(store.images().expect("read").is_empty());
}

#[test]
fn a_tag_moves_and_leaves_the_old_image_dangling() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let first = fixture.image(&store, "first");
    let second = fixture.image(&store, "second");
    store.tag(&name("a:1"), &first, None).expect("tagged");
    store.tag(&name("a:1"), &second, None).expect("tagged");
    assert_eq!(store.resolve("a:1").expect("found").id, second);
    let old = store.image(&first).expect("read").expect("there");
    assert!(old.is_dangling());
    assert_eq!(store.untag(&name("a:1")).expect("untagged"), Some(second));
    assert_eq!(store.untag(&name("a:1")).expect("untagged"), None);
}

#[test]
fn images_are_resolved_as_docker_does() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "one");
    let digest = Digest::of(b"manifest");
    store
        .tag(&name("127.0.0.1:5000/team/a"), &id, Some(&digest))
        .expect("tagged");
    store.tag(&name("debian"), &id, None).expect("tagged");
    let hex = id.digest().hex();
    for text in [
        "debian".to_owned(),
        "library/debian:latest".to_owned(),
        "docker.io/debian".to_owned(),
        format!("127.0.0.1:5000/team/a@{digest}"),
        format!("127.0.0.1:5000/team/a:other@{digest}"),
        hex.clone(),
        format!("sha256:{hex}"),
        hex[..12].to_owned(),
        hex[..1].to_owned(),
        format!("sha256:{}", &hex[..7]),
    ] {
        assert_eq!(store.resolve(&text).expect(&text).id, id, "{text}");
    }
    for (text, message) in [
        (
            "nosuch".to_owned(),
            "No such image: nosuch:latest".to_owned(),
        ),
        (
            format!("debian@{digest}"),
            format!("No such image: debian@{digest}"),
        ),
        (
            "0".repeat(64),
            format!("No such image: sha256:{}", "0".repeat(64)),
        ),
        (
            "ubuntu:18:04".to_owned(),
            "invalid reference format".to_owned(),
        ),
        (
            "Debian".to_owned(),
            "invalid reference format: repository name (library/Debian) must be lowercase"
                .to_owned(),
        ),
    ] {
        assert_eq!(store.resolve(&text).expect_err(&text).to_string(), message);
    }
}

#[test]
fn a_prefix_of_several_ids_is_ambiguous() {
    let fixture = Fixture::new();
    let store = fixture.open();
    // Seventeen ids: two begin with the same digit.
    for index in 0..17 {
        fixture.image(&store, &index.to_string());
    }
    let ambiguous = "0123456789abcdef".chars().any(|digit| {
        let found = store.resolve(&digit.to_string());
        matches!(found, Err(ResolveError::Ambiguous { .. }))
    });
    assert!(ambiguous);
}

#[test]
fn a_generated_manifest_names_only_blobs_of_the_store() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "x");
    let (media_type, bytes) = store.manifest_of(&id).expect("made");
    let parsed = oci::ManifestOrIndex::parse(Some(&media_type), &bytes).expect("valid");
    let oci::ManifestOrIndex::Manifest(manifest) = parsed else {
        panic!("an index")
    };
    assert_eq!(manifest.config.digest, *id.digest());
    for layer in &manifest.layers {
        assert_eq!(
            store
                .blob(&layer.digest)
                .expect("read")
                .expect("there")
                .size,
            layer.size
        );
    }
    assert_eq!(store.manifest_of(&id).expect("made").1, bytes);
}

fn container(id: char, name: &str, image: oci::ImageId, layers: Vec<DiffId>) -> ContainerRecord {
    ContainerRecord {
        id: id.to_string().repeat(64),
        name: name.to_owned(),
        image,
        image_name: "x".to_owned(),
        command: vec!["sh".to_owned()],
        created: Timestamp::now(),
        state: ContainerState::Created,
        auto_remove: false,
        options: serde_json::json!({"tty": true}),
        layers,
    }
}

#[test]
fn an_image_is_used_when_a_container_or_a_build_takes_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = fixture.image(&store, "x");
    let used = || {
        let image = store.image(&image).expect("read").expect("there");
        image.last_used
    };
    assert_eq!(used(), None);
    store.touch_image(&image).expect("noted");
    let first = used().expect("known");
    store.touch_image(&image).expect("noted");
    assert_eq!(used(), Some(first), "not written again within the hour");
    let container = container('a', "web", image, Vec::new());
    store.put_container(&container).expect("stored");
    assert_eq!(used(), Some(container.created));
}

#[test]
fn containers_are_found_by_id_name_and_prefix() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = fixture.image(&store, "x");
    let first = container('a', "web", image, Vec::new());
    store.put_container(&first).expect("stored");
    store
        .put_container(&container('b', "db", image, Vec::new()))
        .expect("stored");
    for text in ["web", "/web", "aaa", &first.id] {
        assert_eq!(store.container(text).expect("found"), first);
    }
    assert!(store.container_dir(&first.id).is_dir());
    let conflict = store.put_container(&container('c', "web", image, Vec::new()));
    assert_eq!(
        conflict.expect_err("taken").to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            first.id
        )
    );
    let exited = ContainerState::Exited {
        code: 3,
        started: Timestamp::now(),
        finished: Timestamp::now(),
    };
    store
        .set_container_state(&first.id, &exited)
        .expect("changed");
    assert_eq!(store.container("web").expect("found").state, exited);
    store
        .remove_container(&first.id, Remains::Files)
        .expect("removed");
    assert!(!store.container_dir(&first.id).exists());
    assert!(matches!(
        store.container("web"),
        Err(ContainerError::NotFound(_))
    ));
    assert!(matches!(
        store.put_container(&container('/', "x", image, Vec::new())),
        Err(ContainerError::InvalidId(_))
    ));
}

#[test]
fn a_container_runs_only_while_its_own_process_does() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = fixture.image(&store, "x");
    let stat = std::fs::read_to_string("/proc/self/stat").expect("read");
    let ticks: u64 = stat
        .rsplit_once(')')
        .expect("stat")
        .1
        .split_whitespace()
        .nth(19)
        .expect("22")
        .parse()
        .expect("number");
    let running = |boot_id: &str, start_ticks| ContainerRecord {
        state: ContainerState::Running {
            pid: i32::try_from(std::process::id()).expect("pid"),
            started: Timestamp::now(),
            boot_id: boot_id.to_owned(),
            start_ticks,
        },
        ..container('a', "web", image, Vec::new())
    };
    let boot = fixture.boot_id();
    assert!(store.is_running(&running(&boot, ticks)));
    assert!(!store.is_running(&running(&boot, ticks + 1)));
    assert!(!store.is_running(&running("other", ticks)));
}

fn step(key: &str, layer: Option<DiffId>) -> StepRecord {
    StepRecord {
        key: Digest::of(key.as_bytes()),
        instruction: format!("RUN {key}"),
        layer,
        parent_chain: None,
        ingredients: serde_json::json!({"instruction": key}),
        seconds: 0.5,
        created: Timestamp::now(),
        last_used: Timestamp::now(),
        content_size: 4,
    }
}

#[test]
fn what_a_step_made_is_found_without_all_that_it_was_made_of() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = fixture.layer(&store, b"made");
    let long = "é".repeat(100_000);
    for (ingredients, epoch) in [
        (
            serde_json::json!({"key": {"inputs": [long], "epoch": null}, "epoch": 17}),
            Some(17),
        ),
        (
            serde_json::json!({"key": {"epoch": 5}, "epoch": -3}),
            Some(-3),
        ),
        (serde_json::json!({"key": {"epoch": 5}}), None),
        (serde_json::json!({"key": {}, "epoch": "17"}), None),
        (
            serde_json::json!({"epoch": 4, "key": {"epoch": 5}}),
            Some(4),
        ),
        (serde_json::json!(["epoch"]), None),
        (serde_json::json!({"key": ",\"epoch\":17}"}), None),
    ] {
        let record = store::StepRecord {
            ingredients,
            ..step("made", Some(layer))
        };
        store.put_step(&record).expect("stored");
        let made = store.step_made(&record.key).expect("read").expect("there");
        assert_eq!(made.epoch, epoch, "{}", record.ingredients);
        assert_eq!(made.layer, record.layer);
        assert_eq!(
            (made.created, made.last_used),
            (record.created, record.last_used)
        );
    }
    std::fs::remove_dir_all(store.layer_dir(&layer)).expect("removed");
    assert_eq!(
        store.step_made(&step("made", None).key).expect("read"),
        None
    );
    assert_eq!(store.step_made(&Digest::of(b"none")).expect("read"), None);
}

#[test]
fn a_step_is_found_while_its_layer_is_there() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = fixture.layer(&store, b"made");
    let record = step("make", Some(layer));
    store.put_step(&record).expect("stored");
    store.touch_step(&record.key).expect("touched");
    let found = store.step(&record.key).expect("read").expect("there");
    assert_eq!(found.ingredients, record.ingredients);
    assert!(found.last_used >= record.last_used);
    store.sweep().expect("swept");
    assert!(
        store.step(&record.key).expect("read").is_some(),
        "a step keeps its layer"
    );
    std::fs::remove_dir_all(store.layer_dir(&layer)).expect("removed");
    assert_eq!(store.step(&record.key).expect("read"), None);
    let absent = DiffId(Digest::of(b"absent"));
    assert!(matches!(
        store.put_step(&step("x", Some(absent))),
        Err(StoreError::LayerNotFound(_))
    ));
}

#[test]
fn pruning_unused_steps_keeps_those_of_images() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = fixture.image(&store, "x");
    let used = store.image(&image).expect("read").expect("there").layers[0];
    let unused = fixture.layer(&store, b"unused");
    store.put_step(&step("used", Some(used))).expect("stored");
    store
        .put_step(&step("unused", Some(unused)))
        .expect("stored");
    let pruned = store.prune(&steps(&StepFilter::default())).expect("pruned");
    assert_eq!(pruned.steps.len(), 1);
    assert_eq!(pruned.swept.layers, [unused]);
    assert!(pruned.swept.bytes > 0);
    let all = StepFilter {
        scope: StepScope::All,
        until: None,
    };
    assert_eq!(store.prune(&steps(&all)).expect("pruned").steps.len(), 1);
    assert!(store.has_layer(&used).expect("read"), "the image keeps it");
}

#[test]
fn builds_are_listed_newest_first() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for name in ["a", "b"] {
        let build = BuildRecord {
            reference: format!("r{name}"),
            name: name.to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            started: Timestamp::now(),
            seconds: 1.0,
            status: BuildStatus::Failed,
            steps: serde_json::json!([]),
            about: serde_json::json!({ "context": "." }),
            log: None,
        };
        store.put_build(&build).expect("stored");
    }
    let names: Vec<String> = store
        .builds()
        .expect("read")
        .into_iter()
        .map(|build| build.name)
        .collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn origins_are_listed_last_seen_first() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let digest = Digest::of(b"x");
    for repository in ["a.b/x", "c.d/y", "a.b/x"] {
        store.record_origin(&digest, repository).expect("stored");
    }
    assert_eq!(store.origins(&digest).expect("read"), ["a.b/x", "c.d/y"]);
}

#[test]
fn an_image_made_here_is_as_old_as_its_last_step() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let config = config_with(&[fixture.layer(&store, b"layer")], "x");
    let put = |times: &[Option<Timestamp>]| {
        let image = NewImage {
            config: &config,
            manifest: None,
            parent: None,
            times,
        };
        let id = store.put_image(&image).expect("stored");
        store.image(&id).expect("read").expect("there")
    };
    let said = Timestamp::parse("2026-01-02T03:04:05Z").expect("a time");
    assert_eq!(put(&[]).created_at(), Some(said));
    let (early, late) = (Timestamp(said.0 + 1), Timestamp(said.0 + 2));
    let made = put(&[None, Some(early), Some(late)]);
    assert_eq!(made.created_at(), Some(late));
    assert_eq!(made.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    let times = store.image_times(&made.id).expect("read");
    assert_eq!(times, [None, Some(early), Some(late)]);
    // Received again it is no other image, and made again it is a newer one.
    assert_eq!(put(&[]).created_at(), Some(late));
    let newer = fixture.image(&store, "newer by its configuration only");
    assert_eq!(store.images().expect("read")[1].id, newer);
    assert_eq!(put(&[Some(early)]).created_at(), Some(early));
    assert_eq!(store.images().expect("read")[0].id, made.id);
}
