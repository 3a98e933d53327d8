//! Laws of pruning: what a rehearsal tells, a prune does.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci::{Descriptor, Digest, ImageId, MediaType, Reference};
use store::{
    Compressed, ContainerRecord, ContainerState, Keeper, Kept, KeptThing, Prune, PruneError,
    PruneFilter, PruneReport, PruneScope, Purpose, StepFilter, StepRecord, StepScope, Store,
    Timestamp, UndoWindow,
};

use crate::fixture::Fixture;
use crate::usage::cache;

fn name(text: &str) -> Reference {
    Reference::parse(text).expect("valid").or_latest()
}

/// Records a container that has written 100,000 bytes.
pub(crate) fn container(store: &Store, image: ImageId, id: &str) -> ContainerRecord {
    let layers = store.image(&image).expect("read").expect("there").layers;
    let record = ContainerRecord {
        id: id.repeat(64)[..64].to_owned(),
        name: format!("name-{id}"),
        image,
        image_name: "a".to_owned(),
        command: Vec::new(),
        created: Timestamp::now(),
        state: ContainerState::Created,
        auto_remove: false,
        options: serde_json::Value::Null,
        layers,
    };
    store.put_container(&record).expect("stored");
    let upper = store.container_dir(&record.id).join("rw/upper");
    fs::create_dir_all(&upper).expect("made");
    fs::write(upper.join("written"), vec![1; 100_000]).expect("written");
    record
}

/// Records a build step with a layer of its own.
pub(crate) fn step(fixture: &Fixture, store: &Store, text: &str) -> StepRecord {
    let step = StepRecord {
        key: Digest::of(text.as_bytes()),
        instruction: format!("RUN {text}"),
        layer: Some(fixture.layer(store, format!("step {text}").as_bytes())),
        parent_chain: None,
        ingredients: serde_json::Value::Null,
        seconds: 1.0,
        created: Timestamp::now(),
        last_used: Timestamp::now(),
        content_size: 5,
    };
    store.put_step(&step).expect("stored");
    step
}

/// Stores a blob that is the last layer of an image compressed.
pub(crate) fn compressed(store: &Store, image: &ImageId, text: &str) -> Digest {
    let layers = store.image(image).expect("read").expect("there").layers;
    let media_type = MediaType::from(MediaType::OCI_LAYER_GZIP);
    let blob = store
        .put_blob(&media_type, text.as_bytes())
        .expect("stored");
    let last = layers.last().expect("a layer");
    store.record_compressed(last, &blob).expect("recorded");
    blob.digest
}

/// Leaves a partial download that is `age` old.
pub(crate) fn partial(store: &Store, text: &str, age: Duration) {
    let media_type = MediaType::OCI_LAYER_GZIP;
    let descriptor = Descriptor::new(media_type, Digest::of(text.as_bytes()), 1 << 20);
    let mut writer = store.blob_writer(&descriptor).expect("started");
    writer.write_all(&[7; 50_000]).expect("written");
    drop(writer);
    let path = store
        .ingest_dir()
        .join(format!("{}.blob", descriptor.digest.hex()));
    let file = fs::File::options().write(true).open(path).expect("there");
    file.set_modified(SystemTime::now() - age).expect("set");
}

/// A week, after which partial downloads go.
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Puts something of every kind into a store.
fn fill(fixture: &Fixture, store: &Store) {
    cache(store, "mount");
    for text in ["tagged", "used", "dangling", "shared"] {
        let id = fixture.image(store, text);
        if text != "dangling" {
            store
                .tag(&name(&format!("{text}:1")), &id, None)
                .expect("tagged");
        }
        compressed(store, &id, &format!("compressed {text}"));
        if text == "used" {
            container(store, id, "a");
            container(store, id, "b");
        }
    }
    step(fixture, store, "one");
    step(fixture, store, "two");
    fixture.layer(store, b"nobody's");
    fs::create_dir(store.root().join("containers/stray")).expect("made");
    partial(store, "young", Duration::ZERO);
    partial(store, "old", WEEK + Duration::from_secs(60));
    let scratch = store.ingest_dir().join("killed.scratch");
    fs::create_dir(&scratch).expect("made");
    fs::write(scratch.join("tar"), vec![1; 30_000]).expect("written");
    store.empty_trash().expect("emptied");
}

/// Lists the files of a store with their sizes on disk, the database apart.
fn files(root: &Path) -> BTreeMap<String, u64> {
    fn list(directory: &Path, files: &mut BTreeMap<String, u64>) {
        for entry in fs::read_dir(directory).expect("read") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("there");
            if metadata.is_dir() {
                list(&path, files);
            }
            files.insert(path.display().to_string(), metadata.blocks() * 512);
        }
    }
    let mut files = BTreeMap::new();
    list(root, &mut files);
    files.retain(|path, _| !path.contains("db.sqlite"));
    files
}

/// All that a store says of itself.
fn records(store: &Store) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        store.images(),
        store.containers(),
        store.steps(),
        store.operations(),
        store.tags(None)
    )
}

fn prunes(store: &Store) -> Vec<(&'static str, Prune)> {
    let all = PruneFilter {
        scope: PruneScope::Unused,
        ..PruneFilter::default()
    };
    let images = |filter: &PruneFilter| Some(filter.clone());
    let steps = |scope| Some(StepFilter { scope, until: None });
    vec![
        ("nothing", Prune::default()),
        (
            "image prune",
            Prune {
                images: images(&PruneFilter::default()),
                ..Prune::default()
            },
        ),
        (
            "image prune -a",
            Prune {
                images: images(&all),
                ..Prune::default()
            },
        ),
        (
            "builder prune -a",
            Prune {
                steps: steps(StepScope::All),
                ..Prune::default()
            },
        ),
        (
            "system prune --compressed",
            Prune {
                compressed: Compressed::Drop,
                ..Prune::default()
            },
        ),
        (
            "system prune -a",
            Prune {
                containers: store.containers().expect("read"),
                images: images(&all),
                steps: steps(StepScope::All),
                ..Prune::default()
            },
        ),
    ]
}

#[test]
fn a_rehearsal_tells_what_the_prune_then_does_and_changes_nothing() {
    let windows = [
        UndoWindow::None,
        UndoWindow::Always(Duration::from_secs(3600)),
    ];
    let count = prunes(&Fixture::new().open()).len();
    for (window, index) in windows
        .iter()
        .flat_map(|w| (0..count).map(move |i| (*w, i)))
    {
        let fixture = Fixture::new();
        let store = fixture.open();
        fill(&fixture, &store);
        let (text, prune) = prunes(&store).swap_remove(index);
        let own = store.operation(Purpose {
            kind: text.to_owned(),
            command: text.to_owned(),
            window,
        });
        let before = (files(store.root()), records(&store));
        let told = own.rehearse_prune(&prune).expect("told");
        let log = fs::metadata(store.root().join("db.sqlite-wal"))
            .expect("a log")
            .len();
        let again = own.rehearse_prune(&prune).expect("told");
        let log_after = fs::metadata(store.root().join("db.sqlite-wal"))
            .expect("a log")
            .len();
        assert_eq!(log, log_after, "{text}: nothing is written to the log");
        assert_eq!((files(store.root()), records(&store)), before, "{text}");
        assert_eq!(told, again, "{text}");
        assert_eq!(own.undo_hold_ends().expect("read"), None);

        let done = own.prune(&prune).expect("pruned");
        assert_eq!(told, done, "{text}");
        own.give_up_undo().expect("given up");
        own.empty_trash().expect("emptied");
        let after = files(store.root());
        let gone = before
            .0
            .iter()
            .filter(|(path, _)| !after.contains_key(*path));
        let gone: u64 = gone.map(|(_, bytes)| bytes).sum();
        assert_eq!(done.swept.bytes, gone, "{text}: what is told is freed");
        assert!(gone > 0, "{text}");
    }
}

#[test]
fn a_cache_mount_goes_with_the_build_cache_unless_it_was_used_since() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let key = cache(&store, "mount");
    let before = Timestamp::now();
    cache(&store, "later");
    let prune = |until| Prune {
        steps: Some(StepFilter {
            scope: StepScope::Unused,
            until,
        }),
        ..Prune::default()
    };
    let names = |report: &store::PruneReport| -> Vec<String> {
        let names = report.caches.iter();
        names.map(|(cache, _)| cache.name.clone()).collect()
    };
    let report = store.prune(&prune(Some(before))).expect("pruned");
    assert_eq!(names(&report), [key.hex()]);
    assert!(report.swept.bytes > 30_000);
    // One that a step uses is waited for: the step's command holds the store's lock.
    let report = store.prune(&prune(None)).expect("pruned");
    assert_eq!(names(&report), [Digest::of(b"later").hex()]);
    assert_eq!(store.caches().expect("read"), []);
    let hold = store::CacheHold::Locked;
    let again = store.try_cache(&key, "again", hold).expect("made");
    assert!(again.expect("free").is_new().expect("looked"));
}

#[test]
fn a_prune_of_containers_frees_them_and_what_only_they_need() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fill(&fixture, &store);
    store
        .remove_image("used:1", store::Force::Yes)
        .expect("forced");
    let containers = store.containers().expect("read");
    let told = store.rehearse_prune_containers(&containers).expect("told");
    assert_eq!(store.containers().expect("read"), containers);
    // Others at work do not delay it.
    let lock = store.lock_shared().expect("locked");
    let before = files(store.root());
    let done = store.prune_containers(&containers).expect("pruned");
    drop(lock);
    assert_eq!(told.swept.bytes, done.swept.bytes);
    assert_eq!(done.containers.len(), 2);
    assert_eq!(
        PruneReport {
            swept: store::Swept::default(),
            ..told
        },
        PruneReport {
            swept: store::Swept::default(),
            ..done.clone()
        }
    );
    store.sweep().expect("swept");
    store.empty_trash().expect("emptied");
    let after = files(store.root());
    let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
    // What nobody needed before is not the prune's.
    let strays = ["stray", "killed.scratch", &Digest::of(b"old").hex()];
    let strays = strays.map(str::to_owned);
    let nobodys = Digest::of(b"nobody's").hex();
    let own = gone.filter(|(path, _)| {
        !strays
            .iter()
            .chain([&nobodys])
            .any(|stray| path.contains(stray.as_str()))
    });
    assert_eq!(own.map(|(_, bytes)| bytes).sum::<u64>(), done.swept.bytes);
}

#[test]
fn a_container_that_has_changed_since_it_was_looked_at_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    let record = container(&store, id, "a");
    let exited = ContainerState::Exited {
        code: 0,
        started: Timestamp::now(),
        finished: Timestamp::now(),
    };
    store.set_container_state(&record.id, &exited).expect("set");
    let report = store.prune_containers(&[record]).expect("pruned");
    assert!(report.containers.is_empty(), "{report:?}");
    assert_eq!(report.swept.bytes, 0);
    assert_eq!(report.kept[0].by, [Keeper::Condition]);
    assert_eq!(store.containers().expect("read").len(), 1);
}

/// Stores an image whose own layer takes 100 kB, under a tag.
fn large(fixture: &Fixture, store: &Store, tag: &str) -> ImageId {
    let id = fixture.image(store, &tag.repeat(100_000 / tag.len()));
    store.tag(&name(tag), &id, None).expect("tagged");
    id
}

fn tags(store: &Store) -> Vec<String> {
    let tags = store.tags(None).expect("read");
    tags.iter().map(|(name, _)| name.familiar()).collect()
}

fn all_images(filter: PruneFilter) -> Prune {
    let scope = PruneScope::Unused;
    Prune {
        images: Some(PruneFilter { scope, ..filter }),
        explain: true,
        ..Prune::default()
    }
}

#[test]
fn what_was_of_use_lately_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let old = ["old:1", "run:1", "tagged:1"].map(|tag| large(&fixture, &store, tag));
    let since = Timestamp::now();
    let record = container(&store, old[1], "a");
    let remains = store::Remains::Files;
    store
        .remove_container(&record.id, remains)
        .expect("removed");
    store.tag(&name("tagged:2"), &old[2], None).expect("tagged");
    large(&fixture, &store, "new:1");
    let filter = PruneFilter {
        unused_since: Some(since),
        ..PruneFilter::default()
    };
    let report = store.prune(&all_images(filter)).expect("pruned");
    assert_eq!(tags(&store), ["new:1", "run:1", "tagged:1", "tagged:2"]);
    let kept = report.kept.iter();
    let images = kept.filter(|kept| matches!(kept.what, KeptThing::Image(..)));
    let by: Vec<&Vec<Keeper>> = images.map(|kept| &kept.by).collect();
    assert_eq!(by, vec![&vec![Keeper::Condition]; 3]);
}

#[test]
fn the_last_used_tags_of_each_repository_stay() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for tag in [
        "app:1", "app:2", "app:3", "app:4", "other:1", "used:1", "used:2",
    ] {
        large(&fixture, &store, tag);
    }
    let first = store.tagged(&name("app:1")).expect("read").expect("there");
    let second = store.tagged(&name("app:2")).expect("read").expect("there");
    let used = store.tagged(&name("used:1")).expect("read").expect("there");
    let digest = Digest::of(b"manifest");
    store
        .tag(&name("app:3"), &first, Some(&digest))
        .expect("moved");
    store.tag(&name("both:1"), &second, None).expect("tagged");
    container(&store, used, "a");
    // app:1 and app:3 are one image, the one last used of app; then comes app:2.
    let keep = |count| {
        all_images(PruneFilter {
            keep: Some(count),
            ..PruneFilter::default()
        })
    };
    let told = store.rehearse_prune(&keep(1)).expect("told");
    let done = store.prune(&keep(1)).expect("pruned");
    assert_eq!(told, done);
    // What a container uses stays with its names, and counts as a tag of its repository.
    let left = ["app:2", "both:1", "other:1", "used:1"];
    assert_eq!(tags(&store), left, "{done:?}");
    let recent = |tag: &str| Keeper::Recent(tag.to_owned());
    let by = |wanted: &str| {
        let is_wanted = |kept: &&Kept| match &kept.what {
            KeptThing::Image(name, _) => name.as_deref() == Some(wanted),
            _ => false,
        };
        done.kept.iter().find(is_wanted).expect("kept").by.clone()
    };
    assert_eq!(by("app:2"), [recent("app:2"), recent("both:1")]);
    assert_eq!(by("used:1")[0], Keeper::Container("name-a".to_owned()));
    store.prune(&keep(0)).expect("pruned");
    assert_eq!(tags(&store), ["used:1"]);
}

fn total(store: &Store) -> u64 {
    store.usage(&|_| false).expect("measured").total()
}

#[test]
fn the_longest_unused_go_until_the_store_is_small_enough() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for tag in ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1"] {
        large(&fixture, &store, tag);
    }
    let oldest = store.tagged(&name("a:1")).expect("read").expect("there");
    container(&store, oldest, "a");
    let second = store.tagged(&name("b:1")).expect("read").expect("there");
    store.tag(&name("b:2"), &second, None).expect("tagged");
    store.mark_synced().expect("synced");
    let before = total(&store);
    // Two images' layers, and the reserve for the records of the prune.
    let target = before - 200_000 - (128 << 10);
    let prune = Prune {
        target: Some(target),
        ..all_images(PruneFilter::default())
    };
    let told = store.rehearse_prune(&prune).expect("told");
    let done = store.prune(&prune).expect("pruned");
    assert_eq!(told, done);
    store.empty_trash().expect("emptied");
    assert!(total(&store) <= target, "{} of {target}", total(&store));
    // The image of a container stays, as does what was named last.
    let left = tags(&store);
    assert_eq!(left[..3], ["a:1", "b:1", "b:2"]);
    assert!(left.len() > 4 && left.len() < 8, "{left:?}");
    assert_eq!(left.last().map(String::as_str), Some("h:1"));
    let again = store.prune(&prune).expect("nothing to do");
    assert_eq!(again.removals, []);
    let kept = done.kept.iter().find(|kept| kept.by == [Keeper::Target]);
    assert!(kept.is_some(), "{:?}", done.kept);
}

#[test]
fn a_store_that_cannot_become_so_small_loses_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let used = large(&fixture, &store, "used:1");
    container(&store, used, "a");
    large(&fixture, &store, "free:1");
    let step = step(&fixture, &store, "one");
    compressed(&store, &used, "compressed");
    let before = (tags(&store), total(&store), store.steps().expect("read"));
    let prune = Prune {
        target: Some(50_000),
        ..all_images(PruneFilter::default())
    };
    let error = store.prune(&prune).expect_err("out of reach");
    let PruneError::OutOfReach(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.target, 50_000);
    assert_eq!(error.containers.0, ["name-a"]);
    assert!(
        error.used_images > 100_000 && error.used_images < 350_000,
        "{error:?}"
    );
    assert!(
        error.containers.1 > 100_000 && error.compressed > 0,
        "{error:?}"
    );
    let layer = store
        .usage(&|_| false)
        .expect("measured")
        .layer(&step.layer.expect("one"));
    assert_eq!(error.build_cache, layer);
    assert_eq!(error.other_images, 0);
    let parts = error.used_images + error.containers.1 + error.build_cache + error.compressed;
    let parts = parts + error.records + error.partial;
    assert!(
        error.least >= parts && error.least < parts + (256 << 10),
        "{error:?}"
    );
    let after = (tags(&store), total(&store), store.steps().expect("read"));
    assert_eq!(before, after);
    let steps = Some(StepFilter {
        scope: StepScope::All,
        until: None,
    });
    let target = Some(error.least - layer);
    let reached = store
        .prune(&Prune {
            steps,
            target,
            ..prune
        })
        .expect("in reach with steps");
    assert_eq!(reached.steps, [step]);
}

#[test]
fn all_that_stays_has_something_that_keeps_it() {
    let fixture = Fixture::new();
    let count = prunes(&fixture.open()).len();
    for index in 0..count {
        let fixture = Fixture::new();
        let store = fixture.open();
        fill(&fixture, &store);
        let parent = store
            .tagged(&name("tagged:1"))
            .expect("read")
            .expect("there");
        let layers = store.image(&parent).expect("read").expect("there").layers;
        let child = store::NewImage {
            config: &crate::fixture::config_with(&layers, "child"),
            manifest: None,
            parent: Some(parent),
            times: &[],
        };
        let child = store.put_image(&child).expect("stored");
        store.tag(&name("child:1"), &child, None).expect("tagged");
        let held = fixture.image(&store, "held");
        let own = store.operation(Purpose {
            kind: "rmi".to_owned(),
            command: "rmi held".to_owned(),
            window: UndoWindow::Always(Duration::from_secs(3600)),
        });
        own.remove_image(&held.to_string(), store::Force::No)
            .expect("removed");
        let (text, mut prune) = prunes(&store).swap_remove(index);
        prune.explain = true;
        let report = store.prune(&prune).expect("pruned");
        for kept in &report.kept {
            assert!(!kept.by.is_empty(), "{text}: {kept:?}");
        }
        let has = |wanted: &dyn Fn(&Kept) -> bool| report.kept.iter().any(wanted);
        let by = |keeper: Keeper| has(&|kept| kept.by.contains(&keeper));
        assert!(by(Keeper::Recently), "{text}: a young download");
        assert!(
            has(&|kept| kept.what == KeptThing::Held("rmi held".to_owned())),
            "{text}"
        );
        match text {
            "image prune" => {
                assert!(by(Keeper::Child("child:1".to_owned())), "{report:?}");
                assert!(by(Keeper::Tag("used:1".to_owned())));
                assert!(by(Keeper::Container("name-a".to_owned())));
                assert!(by(Keeper::Layers));
                // The dangling image's lower layer is the others' too.
                let shared = oci::DiffId(Digest::of(b"shared"));
                assert!(has(&|kept| kept.what == KeptThing::Layer(shared)));
            }
            "system prune -a" => assert!(!has(&|kept| matches!(kept.what, KeptThing::Image(..)))),
            _ => {}
        }
    }
}
