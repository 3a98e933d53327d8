//! Laws of measuring: every file counts once, and what can be freed is what prunes free.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use oci::{Digest, MediaType, Reference};
use store::{
    CacheHold, Compressed, ContainerRecord, Force, Prune, PruneFilter, PruneScope, Purpose,
    StepFilter, StepScope, Store, TagDocument, UndoWindow, Usage,
};

use crate::fixture::Fixture;
use crate::pruning::{WEEK, compressed, container, partial, step};

fn name(text: &str) -> Reference {
    Reference::parse(text).expect("valid").or_latest()
}

fn du(path: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(path)
        .output()
        .expect("du runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split('\t')
        .next()
        .expect("a size")
        .parse()
        .expect("a number")
}

/// Puts something of every kind into a store. The container `b…` runs.
fn fill(fixture: &Fixture, store: &Store) {
    for text in ["tagged", "used", "dangling", "running"] {
        let id = fixture.image(store, text);
        if text != "dangling" {
            store
                .tag(&name(&format!("{text}:1")), &id, None)
                .expect("tagged");
        }
        compressed(store, &id, &format!("compressed {text}"));
        match text {
            "used" => drop(container(store, id, "a")),
            "running" => drop(container(store, id, "b")),
            _ => {}
        }
    }
    // A container whose image is gone.
    let id = fixture.image(store, "forced");
    store.tag(&name("forced:1"), &id, None).expect("tagged");
    container(store, id, "c");
    store.remove_image("forced:1", Force::Yes).expect("forced");
    // A layer in the other form, with a hard link.
    let layer = fixture.layer(store, b"shared");
    let tree = store.layer_dir(&layer).join("tree");
    fs::create_dir(&tree).expect("made");
    fs::write(tree.join("file"), vec![1; 70_000]).expect("written");
    fs::hard_link(tree.join("file"), tree.join("link")).expect("linked");
    // An index, and a leased blob.
    let kind = MediaType::from(MediaType::OCI_INDEX);
    let put = |bytes: &[u8]| store.put_blob(&kind, bytes).expect("stored").digest;
    let (document, part) = (put(b"index"), put(b"part"));
    let image = store.tagged(&name("tagged:1")).expect("read");
    let new = TagDocument {
        document,
        parts: &[part],
        image,
    };
    store
        .set_tag_document(&name("tagged:1"), &new)
        .expect("set");
    let leased = put(b"leased");
    store
        .lease(&leased, store::Timestamp(i64::MAX))
        .expect("leased");
    step(fixture, store, "one");
    step(fixture, store, "two");
    cache(store, "mount");
    fixture.layer(store, b"nobody's");
    fs::create_dir(store.root().join("containers/stray")).expect("made");
    store.empty_trash().expect("emptied");
    fs::write(store.root().join("trash/old"), vec![1; 20_000]).expect("written");
    let context = store.stat_cache_path(Path::new("/context"));
    fs::write(context, vec![1; 10_000]).expect("written");
    partial(store, "young", Duration::ZERO);
    partial(store, "old", WEEK + Duration::from_secs(60));
    // Last, or a sweep frees the strays.
    let held = fixture.image(store, "held");
    store.tag(&name("held:1"), &held, None).expect("tagged");
    compressed(store, &held, "compressed held");
    let own = store.operation(Purpose {
        window: UndoWindow::Always(Duration::from_secs(3600)),
        ..Purpose::default()
    });
    own.remove_image("held:1", Force::No).expect("removed");
}

/// Makes a cache mount and returns its key.
pub(crate) fn cache(store: &Store, text: &str) -> Digest {
    let key = Digest::of(text.as_bytes());
    let hold = CacheHold::Shared;
    let cache = store
        .try_cache(&key, text, hold)
        .expect("made")
        .expect("free");
    let made = store.root().join("ingest/made");
    fs::create_dir(&made).expect("made");
    fs::write(made.join("file"), vec![1; 30_000]).expect("written");
    cache.install(&made).expect("installed");
    key
}

fn runs(container: &ContainerRecord) -> bool {
    container.id.starts_with('b')
}

fn usage(store: &Store) -> Usage {
    store.usage(&runs).expect("measured")
}

#[test]
fn the_shares_together_are_what_du_tells() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert_eq!(usage(&store).total(), du(store.root()), "an empty store");
    fill(&fixture, &store);
    let work = store.scratch().expect("scratch");
    fs::write(work.path().join("tar"), vec![1; 40_000]).expect("written");
    let found = usage(&store);
    assert_eq!(found.total(), du(store.root()));
    let block = 4096;
    let least = [
        // The tree of the shared layer counts its file once.
        (found.images, 4, 2, 70_000),
        (found.containers, 3, 1, 300_000),
        (found.build_cache, 3, 0, 4 * block + 30_000),
        (found.compressed, 4, 0, 4 * block),
        (found.partial, 4, 1, 140_000),
        (found.held, 1, 0, 4 * block),
        (found.removed, 4, 0, 20_000 + block),
    ];
    for (index, (share, count, active, bytes)) in least.into_iter().enumerate() {
        assert_eq!(
            (share.count, share.active),
            (count, active),
            "{index}: {share:?}"
        );
        assert!(share.bytes >= bytes, "{index}: {share:?}");
        assert!(share.reclaimable <= share.bytes, "{index}: {share:?}");
    }
    assert!(found.images.bytes < 200_000, "{:?}", found.images);
    drop(work);
    store.sweep().expect("swept");
    store.empty_trash().expect("emptied");
    let found = usage(&store);
    assert_eq!(found.total(), du(store.root()));
    assert_eq!(found.removed.bytes, 0);
    store.give_up_undo().expect("given up");
    let found = usage(&store);
    assert_eq!((found.held.bytes, found.held.count), (0, 0));
    assert_eq!(found.total(), du(store.root()));
}

fn stopped(store: &Store) -> Vec<ContainerRecord> {
    let mut containers = store.containers().expect("read");
    containers.retain(|container| !runs(container));
    containers
}

fn all_unused() -> (PruneFilter, StepFilter) {
    let images = PruneFilter {
        scope: PruneScope::Unused,
        ..PruneFilter::default()
    };
    let steps = StepFilter {
        scope: StepScope::All,
        until: None,
    };
    (images, steps)
}

#[test]
fn what_a_share_can_give_back_is_what_its_prune_takes_of_it() {
    let (all, steps) = all_unused();
    type Choose = fn(&Usage) -> store::Share;
    type Act<'a> = &'a dyn Fn(&Store);
    let cases: [(&str, Choose, Act<'_>); 5] = [
        ("images", |usage| usage.images, &|store| {
            let images = Some(all.clone());
            let prune = Prune {
                images,
                ..Prune::default()
            };
            drop(store.prune(&prune).expect("pruned"));
        }),
        ("containers", |usage| usage.containers, &|store| {
            drop(store.prune_containers(&stopped(store)).expect("pruned"));
        }),
        ("build cache", |usage| usage.build_cache, &|store| {
            let steps = Some(steps.clone());
            let prune = Prune {
                steps,
                ..Prune::default()
            };
            drop(store.prune(&prune).expect("pruned"));
        }),
        ("compressed", |usage| usage.compressed, &|store| {
            let compressed = Compressed::Drop;
            let prune = Prune {
                compressed,
                ..Prune::default()
            };
            drop(store.prune(&prune).expect("pruned"));
        }),
        ("partial", |usage| usage.partial, &|store| {
            drop(store.sweep().expect("swept"));
        }),
    ];
    for (text, share, prune) in cases {
        let fixture = Fixture::new();
        let store = fixture.open();
        fill(&fixture, &store);
        let before = share(&usage(&store));
        prune(&store);
        store.empty_trash().expect("emptied");
        let after = share(&usage(&store));
        assert_eq!(
            before.bytes - after.bytes,
            before.reclaimable,
            "{text}: {before:?}"
        );
        assert!(before.reclaimable > 0, "{text}");
        assert_eq!(after.reclaimable, 0, "{text}");
    }
}

#[test]
fn what_the_store_can_give_back_is_what_a_prune_of_all_takes() {
    let (all, steps) = all_unused();
    let fixture = Fixture::new();
    let store = fixture.open();
    fill(&fixture, &store);
    let before = usage(&store);
    let prune = Prune {
        containers: stopped(&store),
        images: Some(all.clone()),
        steps: Some(steps.clone()),
        compressed: Compressed::Drop,
        ..Prune::default()
    };
    store.prune(&prune).expect("pruned");
    store.empty_trash().expect("emptied");
    let after = usage(&store);
    // The prune itself is recorded.
    let files = |usage: &Usage| usage.total() - usage.records.bytes;
    assert_eq!(files(&before) - files(&after), before.prunable);
    assert_eq!(after.prunable, 0);
    assert!(after.containers.bytes > 0 && after.images.bytes > 0 && after.held.bytes > 0);
}

#[test]
fn an_image_has_what_it_shares_and_what_it_does_not() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (first, second) = (fixture.image(&store, "1"), fixture.image(&store, "2"));
    let images = store.images().expect("read");
    let found = usage(&store);
    let own = found.of_images(&images);
    let of = |id| *own.iter().find(|usage| usage.id == id).expect("listed");
    assert_eq!(of(first).shared, of(second).shared);
    let unique = of(first).unique + of(second).unique;
    assert_eq!(unique + of(first).shared, found.images.bytes);
    let shared = Digest::of(b"shared");
    assert_eq!(of(first).shared, found.layer(&oci::DiffId(shared)));
    let record = container(&store, first, "a");
    let bytes = usage(&store).container(&record.id);
    assert_eq!(bytes, du(&store.container_dir(&record.id)));
}
