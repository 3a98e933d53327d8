//! Laws of pruning: what a rehearsal tells, a prune does.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci::{Descriptor, Digest, ImageId, MediaType, Reference};
use store::{
    Compressed, ContainerRecord, ContainerState, Prune, PruneFilter, PruneReport, PruneScope,
    Purpose, StepFilter, StepRecord, StepScope, Store, Timestamp, UndoWindow,
};

use crate::fixture::Fixture;

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
        assert!(!own.holds_for_undo().expect("read"));

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
    assert_eq!(report, PruneReport::default());
    assert_eq!(store.containers().expect("read").len(), 1);
}
