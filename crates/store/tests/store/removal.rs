//! Laws of removing: docker's rules, its words and its order.

use std::os::unix::fs::MetadataExt as _;

use oci::{ChainId, Digest, ImageId, Reference};
use store::{
    ContainerRecord, ContainerState, Force, LabelFilter, NewImage, Presence, Prune, PruneFilter,
    PruneScope, Remains, Removal, RemoveError, StepRecord, Store, Timestamp,
};

use crate::fixture::{Fixture, config_with};

/// Prunes images only.
fn images(filter: &PruneFilter) -> Prune {
    Prune {
        images: Some(filter.clone()),
        ..Prune::default()
    }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).expect("valid").or_latest()
}

fn chains(store: &Store, id: &ImageId) -> Vec<Removal> {
    let layers = store.image(id).expect("read").expect("there").layers;
    let chains = ChainId::all(&layers);
    chains
        .iter()
        .rev()
        .map(|chain| Removal::Deleted(*chain.digest()))
        .collect()
}

fn untagged(text: &str) -> Removal {
    Removal::Untagged(text.to_owned())
}

fn container(store: &Store, image: ImageId, state: ContainerState) -> ContainerRecord {
    let layers = store.image(&image).expect("read").expect("there").layers;
    let record = ContainerRecord {
        id: "da42ee9c4292".repeat(6)[..64].to_owned(),
        name: "web".to_owned(),
        image,
        image_name: "a".to_owned(),
        command: Vec::new(),
        created: Timestamp::now(),
        state,
        auto_remove: false,
        options: serde_json::Value::Null,
        layers,
    };
    store.put_container(&record).expect("stored");
    record
}

/// Tells whether somebody waits for the root's lock.
fn is_waited_for(store: &Store) -> bool {
    let lock = std::fs::metadata(store.root().join("lock")).expect("there");
    let inode = format!(":{} ", lock.ino());
    let locks = std::fs::read_to_string("/proc/locks").expect("the kernel tells");
    let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
    locks.lines().any(waits)
}

#[test]
fn a_prune_leaves_an_image_that_is_about_to_get_its_name() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let lock = store.lock_shared().expect("locked");
    let id = fixture.image(&store, "1");
    std::thread::scope(|scope| {
        let other = fixture.open();
        let dangling = Prune {
            images: Some(PruneFilter::default()),
            ..Prune::default()
        };
        let prune = scope.spawn(move || other.prune(&dangling));
        while !is_waited_for(&store) {
            std::thread::yield_now();
        }
        store.tag(&name("a"), &id, None).expect("it is there");
        drop(lock);
        let report = prune.join().expect("joined").expect("pruned");
        assert_eq!(report.removals, []);
    });
    assert_eq!(store.tagged(&name("a")).expect("read"), Some(id));
}

#[test]
fn an_image_comes_with_its_names() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layers = [fixture.layer(&store, b"tar")];
    let image = NewImage {
        config: &config_with(&layers, ""),
        manifest: None,
        parent: None,
        times: &[],
    };
    let names = [name("a"), name("b:1")];
    let id = store.put_named_image(&image, &names).expect("stored");
    for name in &names {
        assert_eq!(store.tagged(name).expect("read"), Some(id));
    }
}

#[test]
fn the_last_name_takes_the_image_and_its_own_layers_along() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (first, second) = (fixture.image(&store, "1"), fixture.image(&store, "2"));
    let digest = Digest::of(b"manifest");
    store
        .tag(&name("127.0.0.1:5000/a:1"), &first, Some(&digest))
        .expect("tagged");
    store
        .tag(&name("127.0.0.1:5000/a:2"), &first, None)
        .expect("tagged");
    store.tag(&name("b"), &second, None).expect("tagged");
    let remove = |target: &str| store.remove_image(target, Force::No).expect("removed");
    assert_eq!(
        remove("127.0.0.1:5000/a:1"),
        [untagged("127.0.0.1:5000/a:1")]
    );
    let mut expected = vec![
        untagged("127.0.0.1:5000/a:2"),
        untagged(&format!("127.0.0.1:5000/a@{digest}")),
        Removal::Deleted(*first.digest()),
    ];
    // The bottom layer is shared with the other image.
    expected.push(chains(&store, &first)[0].clone());
    assert_eq!(remove("127.0.0.1:5000/a:2"), expected);
    let mut expected = vec![untagged("b:latest"), Removal::Deleted(*second.digest())];
    expected.extend(chains(&store, &second));
    assert_eq!(remove("b"), expected);
    assert!(store.images().expect("read").is_empty());
    let swept = store.sweep().expect("swept");
    assert_eq!(swept.layers.len(), 3);
    assert!(swept.bytes > 0);
    assert!(store.has_trash().expect("read"));
    store.empty_trash().expect("emptied");
    assert!(!store.has_trash().expect("read"));
    assert_eq!(store.sweep().expect("swept").bytes, 0);
}

#[test]
fn removal_by_id_needs_force_when_there_are_several_names() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    store.tag(&name("a:1"), &id, None).expect("tagged");
    store.tag(&name("b:1"), &id, None).expect("tagged");
    let short = id.digest().short();
    assert_eq!(
        store
            .remove_image(&short, Force::No)
            .expect_err("two names")
            .to_string(),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    let mut expected = vec![
        untagged("a:1"),
        untagged("b:1"),
        Removal::Deleted(*id.digest()),
    ];
    expected.extend(chains(&store, &id));
    let removed = store.remove_image(&short, Force::Yes).expect("removed");
    assert_eq!(removed, expected);
}

#[test]
fn an_image_that_a_container_uses_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    store.tag(&name("debian"), &id, None).expect("tagged");
    let exited = ContainerState::Exited {
        code: 0,
        started: Timestamp::now(),
        finished: Timestamp::now(),
    };
    let record = container(&store, id, exited);
    let short = id.digest().short();
    for (target, message) in [
        (
            "debian:latest",
            format!(
                "conflict: unable to remove repository reference \"debian:latest\" (must force) - container da42ee9c4292 is using its referenced image {short}"
            ),
        ),
        (
            &short,
            format!(
                "conflict: unable to delete {short} (must be forced) - image is being used by stopped container da42ee9c4292"
            ),
        ),
    ] {
        let error = store.remove_image(target, Force::No).expect_err("in use");
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(
        store.image(&id).expect("read").expect("there").tags.len(),
        1,
        "a refusal changes nothing"
    );
    store
        .remove_image("debian", Force::Yes)
        .expect("forced, as docker does");
    assert!(store.image(&id).expect("read").is_none());
    store.sweep().expect("swept");
    for layer in &record.layers {
        assert!(store.has_layer(layer).expect("read"), "the container's");
    }
    assert!(store.image_config_bytes(&id).is_ok());
    store
        .remove_container(&record.id, Remains::Files)
        .expect("removed");
    assert_eq!(store.sweep().expect("swept").layers.len(), 2);
}

#[test]
fn an_image_that_runs_cannot_be_forced_away() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    let stat = std::fs::read_to_string("/proc/self/stat").expect("read");
    let fields = stat.rsplit_once(')').expect("stat").1;
    let ticks = fields.split_whitespace().nth(19).expect("field 22");
    let running = ContainerState::Running {
        pid: i32::try_from(std::process::id()).expect("pid"),
        started: Timestamp::now(),
        boot_id: fixture.boot_id(),
        start_ticks: ticks.parse().expect("number"),
    };
    container(&store, id, running);
    let short = id.digest().short();
    let error = store.remove_image(&short, Force::Yes).expect_err("it runs");
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container da42ee9c4292"
        )
    );
    store.tag(&name("a"), &id, None).expect("tagged");
    assert_eq!(
        store.remove_image("a", Force::Yes).expect("untagged"),
        [untagged("a:latest")]
    );
}

#[test]
fn an_image_with_children_loses_only_its_name() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let parent = fixture.image(&store, "parent");
    let layers = store.image(&parent).expect("read").expect("there").layers;
    let config = config_with(&layers, "child");
    let child = NewImage {
        config: &config,
        manifest: None,
        parent: Some(parent),
        times: &[],
    };
    let child = store.put_image(&child).expect("stored");
    assert_eq!(store.children(&parent).expect("read"), [child]);
    store.tag(&name("p"), &parent, None).expect("tagged");
    assert_eq!(
        store.remove_image("p", Force::No).expect("untagged"),
        [untagged("p:latest")]
    );
    let short = parent.digest().short();
    let error = store.remove_image(&short, Force::Yes).expect_err("child");
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
        )
    );
    let child = child.to_string();
    let removed = store.remove_image(&child, Force::No).expect("removed");
    let last = removed
        .iter()
        .filter(|item| matches!(item, Removal::Deleted(_)));
    assert_eq!(last.count(), 4, "both images and both chains: {removed:?}");
    assert!(store.images().expect("read").is_empty());
}

#[test]
fn what_is_not_there_cannot_be_removed() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let error = store.remove_image("nosuch", Force::Yes).expect_err("none");
    assert_eq!(error.to_string(), "No such image: nosuch:latest");
    assert!(matches!(error, RemoveError::Resolve(_)));
}

#[test]
fn prune_removes_what_its_filter_selects() {
    let made = Timestamp::parse("2026-01-02T03:04:05Z").expect("as config_with has it");
    let label = |key: &str, value: Option<&str>, presence| LabelFilter {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        presence,
    };
    let all = PruneFilter {
        scope: PruneScope::Unused,
        ..PruneFilter::default()
    };
    let cases = [
        (PruneFilter::default(), vec!["dangling"]),
        (all.clone(), vec!["dangling", "tagged"]),
        (
            PruneFilter {
                until: Some(Timestamp(made.0 - 1)),
                ..all.clone()
            },
            vec![],
        ),
        (
            PruneFilter {
                until: Some(made),
                ..all.clone()
            },
            vec!["dangling", "tagged"],
        ),
        (
            PruneFilter {
                labels: vec![label("text", Some("tagged"), Presence::Required)],
                ..all.clone()
            },
            vec!["tagged"],
        ),
        (
            PruneFilter {
                labels: vec![label("text", None, Presence::Forbidden)],
                ..all.clone()
            },
            vec![],
        ),
        (
            PruneFilter {
                labels: vec![label("text", Some("tagged"), Presence::Forbidden)],
                ..all
            },
            vec!["dangling"],
        ),
    ];
    for (filter, expected) in cases {
        let fixture = Fixture::new();
        let store = fixture.open();
        let used = fixture.image(&store, "used");
        container(&store, used, ContainerState::Created);
        store.tag(&name("used:1"), &used, None).expect("tagged");
        store.tag(&name("used:2"), &used, None).expect("tagged");
        let dangling = fixture.image(&store, "dangling");
        let tagged = fixture.image(&store, "tagged");
        store.tag(&name("tagged:1"), &tagged, None).expect("tagged");
        store.tag(&name("tagged:2"), &tagged, None).expect("tagged");
        let report = store.prune(&images(&filter)).expect("pruned");
        let left: Vec<ImageId> = store.images().expect("read").iter().map(|i| i.id).collect();
        for (text, id) in [("used", used), ("dangling", dangling), ("tagged", tagged)] {
            assert_eq!(
                !left.contains(&id),
                expected.contains(&text),
                "{text} with {filter:?}"
            );
        }
        assert_eq!(report.swept.layers.len(), expected.len());
        let names = report.removals.iter();
        let names = names.filter(|item| matches!(item, Removal::Untagged(_)));
        let names_expected = if expected.contains(&"tagged") { 2 } else { 0 };
        assert_eq!(names.count(), names_expected);
    }
}

#[test]
fn a_build_step_keeps_its_chain_from_being_deleted() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    let layers = store.image(&id).expect("read").expect("there").layers;
    let all = ChainId::all(&layers);
    let step = StepRecord {
        key: Digest::of(b"key"),
        instruction: "RUN x".to_owned(),
        layer: Some(layers[1]),
        parent_chain: Some(all[0]),
        ingredients: serde_json::Value::Null,
        seconds: 1.0,
        created: Timestamp::now(),
        last_used: Timestamp::now(),
        content_size: 1,
    };
    store.put_step(&step).expect("stored");
    let target = id.to_string();
    assert_eq!(
        store.remove_image(&target, Force::No).expect("removed"),
        [Removal::Deleted(*id.digest())]
    );
    store.sweep().expect("swept");
    assert!(store.step(&step.key).expect("read").is_some());
}

#[test]
fn a_lease_keeps_parts_until_the_image_comes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = fixture.layer(&store, b"leased");
    let blob = store
        .put_blob(&"text/plain".into(), b"leased blob")
        .expect("stored");
    let later = Timestamp(Timestamp::now().0 + 3_600_000_000_000);
    store.lease(layer.digest(), later).expect("leased");
    store.lease(&blob.digest, later).expect("leased");
    assert!(store.sweep().expect("swept").layers.is_empty());
    assert!(store.has_blob(&blob.digest).expect("read"));
    let config = config_with(&[layer], "x");
    let image = NewImage {
        config: &config,
        manifest: None,
        parent: None,
        times: &[],
    };
    let id = store.put_image(&image).expect("stored");
    store
        .remove_image(&id.to_string(), Force::No)
        .expect("removed");
    assert_eq!(store.sweep().expect("swept").layers, [layer]);
}

#[test]
fn bare_directories_of_containers_wait_for_more_of_them() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = fixture.image(&store, "a");
    let remove = |remains| {
        let record = container(&store, image, ContainerState::Created);
        store
            .remove_container(&record.id, remains)
            .expect("removed");
        store.has_trash().expect("read")
    };
    let waiting = (1..100).take_while(|_| !remove(Remains::Directories));
    assert_eq!(waiting.count(), 31);
    store.empty_trash().expect("emptied");
    assert!(!store.has_trash().expect("read"));
    assert!(!remove(Remains::Directories));
    assert!(remove(Remains::Files));
}
