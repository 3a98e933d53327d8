//! Images between two stores, through our client and our server.

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, ImageId, MediaType, Platform, Reference};
use registry::{Access, Remote};
use store::{
    BlobOutcome, CopyError, CopyOptions, Event, Force, Source as _, Store, StoreSource,
    StoreTarget, Target as _, copy,
};

use crate::fixture::{Counter, Shelf, unpack};
use crate::scripted::told;

/// Copies what `remote` names into `store`, as `pull` does.
pub(crate) fn pull(store: &Store, remote: &Remote, name: &str) -> Result<ImageId, CopyError> {
    let target = StoreTarget::new(store, &unpack);
    let copied = copy(remote, &target, &options(&|_| {}))?;
    let name = Reference::parse(name).expect("a name");
    store
        .tag(&name, &copied.image, Some(&copied.named.digest))
        .expect("tagged");
    Ok(copied.image)
}

/// Copies an image of `store` to `remote`, as `push` does; returns how each layer went.
pub(crate) fn push(
    store: &Store,
    id: ImageId,
    remote: Remote,
) -> Result<(Digest, Vec<BlobOutcome>), CopyError> {
    let source = StoreSource::new(store, id).expect("an image");
    let outcomes = std::sync::Mutex::new(BTreeMap::new());
    let events = |event| {
        let (layer, outcome) = match event {
            Event::LayerDone { layer, outcome } => (layer, outcome),
            Event::LayerExists { layer } => (layer, BlobOutcome::Existed),
            _ => return,
        };
        let mut outcomes = outcomes.lock().expect("not poisoned");
        outcomes.insert(layer.index, outcome);
    };
    let copied = copy(&source, &remote, &options(&events))?;
    let outcomes = outcomes.into_inner().expect("not poisoned");
    Ok((copied.manifest.digest, outcomes.into_values().collect()))
}

fn options<'a>(events: &'a (dyn Fn(Event) + Sync)) -> CopyOptions<'a> {
    CopyOptions {
        platform: Platform::host(),
        parallel: 2,
        events,
    }
}

fn same_image(a: &Store, b: &Store, id: ImageId) {
    assert_eq!(
        a.image_config_bytes(&id).expect("a configuration"),
        b.image_config_bytes(&id).expect("a configuration")
    );
    assert_eq!(
        a.manifest_of(&id).expect("a manifest"),
        b.manifest_of(&id).expect("a manifest")
    );
}

#[test]
fn an_image_that_is_pulled_is_the_one_that_is_served() {
    let counter = Counter::open(Access::PullOnly);
    let id = counter.shelf.image("app:1", &["one", "two", "three"]);
    let here = Shelf::new();
    let pulled = pull(&here.store, &counter.remote("app:1"), "app:1").expect("pulled");
    assert_eq!(pulled, id);
    same_image(&counter.shelf.store, &here.store, id);

    let record = here.store.resolve("app:1").expect("there");
    let digest = record.repo_digests[0]
        .digest()
        .expect("a digest")
        .to_string();
    let by_digest = counter.remote(&format!("app@{digest}"));
    let again = pull(&here.store, &by_digest, &format!("app@{digest}")).expect("pulled");
    assert_eq!(again, id);
}

#[test]
fn an_image_that_is_pushed_is_pulled_again_with_the_same_digests() {
    let here = Shelf::new();
    let id = here.image("app:1", &["one", "two"]);
    let counter = Counter::open(Access::PullAndPush);
    let remote = counter.remote("team/app:2");
    let (digest, outcomes) = push(&here.store, id, remote.clone()).expect("pushed");
    assert_eq!(outcomes, [BlobOutcome::Stored, BlobOutcome::Stored]);
    assert_eq!(remote.head().expect("there").expect("told").digest, digest);
    same_image(&counter.shelf.store, &here.store, id);
    let there = counter.shelf.store.resolve("team/app:2").expect("an image");
    assert_eq!(there.id, id);
    assert_eq!(there.repo_digests[0].digest(), Some(&digest));

    let third = Shelf::new();
    assert_eq!(pull(&third.store, &remote, "x:1").expect("pulled"), id);

    let (again, outcomes) = push(&here.store, id, remote).expect("pushed");
    assert_eq!(again, digest);
    assert_eq!(outcomes, [BlobOutcome::Existed, BlobOutcome::Existed]);
}

#[test]
fn what_was_pushed_survives_a_sweep() {
    let here = Shelf::new();
    let id = here.image("app:1", &["one", "two"]);
    let counter = Counter::open(Access::PullAndPush);
    let remote = counter.remote("app:1");
    push(&here.store, id, remote.clone()).expect("pushed");
    counter.shelf.store.sweep().expect("swept");
    let third = Shelf::new();
    assert_eq!(pull(&third.store, &remote, "x:1").expect("pulled"), id);
}

#[test]
fn an_image_that_was_pushed_twice_goes_as_one_that_was_pushed_once() {
    let here = Shelf::new();
    let id = here.image("app:1", &["one", "two"]);
    for pushes in [1, 2] {
        let counter = Counter::open(Access::PullAndPush);
        for _ in 0..pushes {
            push(&here.store, id, counter.remote("app:1")).expect("pushed");
        }
        let store = &counter.shelf.store;
        store.remove_image("app:1", Force::No).expect("removed");
        store.sweep().expect("swept");
        for directory in ["blobs/sha256", "layers"] {
            let left = std::fs::read_dir(store.root().join(directory)).expect("there");
            assert_eq!(left.count(), 0, "{directory} after {pushes} pushes");
        }
    }
}

#[test]
fn a_tag_moves_to_what_was_pushed_last() {
    let here = Shelf::new();
    let (one, two) = (here.image("a:1", &["one"]), here.image("b:1", &["two"]));
    let counter = Counter::open(Access::PullAndPush);
    push(&here.store, one, counter.remote("app:1")).expect("pushed");
    push(&here.store, two, counter.remote("app:1")).expect("pushed");
    let name = Reference::parse("app:1").expect("a name");
    assert_eq!(counter.shelf.store.tagged(&name).expect("read"), Some(two));
}

#[test]
fn a_push_to_a_registry_that_can_only_be_pulled_from_says_so() {
    let here = Shelf::new();
    let id = here.image("app:1", &["one"]);
    let counter = Counter::open(Access::PullOnly);
    let error = push(&here.store, id, counter.remote("app:1")).expect_err("refused");
    assert_eq!(
        told(&error),
        "denied: this registry can only be pulled from"
    );
}

#[test]
fn a_layer_that_is_no_layer_is_refused_and_nothing_is_tagged() {
    let counter = Counter::open(Access::PullAndPush);
    let remote = counter.remote("app:1");
    let blob = |kind: &str, bytes: &'static [u8]| {
        let descriptor = Descriptor::of(kind, bytes);
        let open = |_| Ok(Box::new(std::io::Cursor::new(bytes)) as Box<dyn std::io::Read + Send>);
        remote
            .put_blob(&descriptor, None, &open, &|_| {})
            .expect("stored");
        descriptor
    };
    let layer = blob(MediaType::OCI_LAYER_GZIP, b"not a layer");
    let config = blob(
        MediaType::OCI_CONFIG,
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#,
    );
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": config, "layers": [layer],
    });
    let kind = MediaType::from(MediaType::OCI_MANIFEST);
    let error = remote
        .put_manifest(&kind, manifest.to_string().as_bytes())
        .expect_err("refused");
    assert!(
        told(&error).starts_with("manifest invalid: "),
        "{}",
        told(&error)
    );
    assert!(counter.shelf.store.tags(None).expect("read").is_empty());
}

#[test]
fn an_index_is_served_as_it_was_pushed() {
    let here = Shelf::new();
    let foreign: Platform = "linux/s390x".parse().expect("a platform");
    let ours = here.image("ours:1", &["one"]);
    let theirs = here.image_for("theirs:1", &["two"], &foreign);
    let counter = Counter::open(Access::PullAndPush);
    let mut entries = Vec::new();
    for (id, platform) in [(theirs, &foreign), (ours, &Platform::host())] {
        let (kind, bytes) = here.store.manifest_of(&id).expect("a manifest");
        let mut entry = Descriptor::of(&kind.0, &bytes);
        entry.platform = Some(platform.clone());
        let child = counter.remote(&format!("app@{}", entry.digest));
        push(&here.store, id, child).expect("pushed");
        entries.push(entry);
    }
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries,
    });
    let index = index.to_string();
    let remote = counter.remote("app:1");
    let kind = MediaType::from(MediaType::OCI_INDEX);
    let digest = remote.put_manifest(&kind, index.as_bytes()).expect("kept");
    assert_eq!(digest, Digest::of(index.as_bytes()));

    counter.shelf.store.sweep().expect("swept");
    let served = remote.resolve().expect("served");
    assert_eq!(served.bytes, index.as_bytes());
    assert_eq!(served.descriptor.media_type, kind);
    for entry in &entries {
        let manifest = remote.manifest(entry).expect("served");
        assert_eq!(Digest::of(&manifest), entry.digest);
    }
    let name = Reference::parse("app:1").expect("a name");
    let image = counter.shelf.store.tagged(&name).expect("read");
    assert_eq!(image, Some(ours), "the image for this machine has the tag");

    let third = Shelf::new();
    assert_eq!(pull(&third.store, &remote, "app:1").expect("pulled"), ours);
    let record = third.store.resolve("app:1").expect("there");
    assert_eq!(record.repo_digests[0].digest(), Some(&digest));

    counter
        .shelf
        .store
        .tag(&name, &theirs_here(&counter, &here, theirs), None)
        .expect("moved");
    let served = remote.resolve().expect("served");
    assert_ne!(
        served.descriptor.digest, digest,
        "a tag that moves takes the index away"
    );
}

/// Pushes an image under another name, so that the server's store has it.
fn theirs_here(counter: &Counter, here: &Shelf, id: ImageId) -> ImageId {
    push(&here.store, id, counter.remote("theirs:1")).expect("pushed");
    id
}

#[test]
fn an_index_without_its_manifests_is_refused() {
    let counter = Counter::open(Access::PullAndPush);
    let entry = Descriptor::of(MediaType::OCI_MANIFEST, b"missing");
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [entry],
    });
    let kind = MediaType::from(MediaType::OCI_INDEX);
    let error = counter
        .remote("app:1")
        .put_manifest(&kind, index.to_string().as_bytes())
        .expect_err("refused");
    assert!(told(&error).starts_with("manifest blob unknown: "));
}

#[test]
fn a_manifest_of_something_else_is_served_as_it_was_pushed() {
    let counter = Counter::open(Access::PullAndPush);
    let remote = counter.remote("chart:1");
    let bytes: &[u8] = b"a chart";
    let part = Descriptor::of("application/vnd.cncf.helm.config.v1+json", bytes);
    let open = |_| Ok(Box::new(std::io::Cursor::new(bytes)) as Box<dyn std::io::Read + Send>);
    remote
        .put_blob(&part, None, &open, &|_| {})
        .expect("stored");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": part, "layers": [],
    })
    .to_string();
    let kind = MediaType::from(MediaType::OCI_MANIFEST);
    remote
        .put_manifest(&kind, manifest.as_bytes())
        .expect("kept");
    counter.shelf.store.sweep().expect("swept");
    assert_eq!(remote.resolve().expect("served").bytes, manifest.as_bytes());
    assert_eq!(remote.tags().expect("tags"), ["1"]);
    assert!(counter.shelf.store.images().expect("read").is_empty());
}

#[test]
fn a_layer_is_mounted_from_where_the_store_knows_it_to_be() {
    let here = Shelf::new();
    let id = here.image("app:1", &["one"]);
    let counter = Counter::open(Access::PullAndPush);
    let first = counter.remote("team/first:1");
    push(&here.store, id, first.clone()).expect("pushed");
    let layers: Vec<Descriptor> = here
        .store
        .image(&id)
        .expect("read")
        .expect("there")
        .layers
        .iter()
        .map(|layer| Descriptor::new(MediaType::OCI_LAYER, *layer.digest(), 0))
        .collect();
    first
        .record_origins(&here.store, &layers)
        .expect("recorded");
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let second = counter
        .remote("team/second:1")
        .offer_mounts(&here.store, &digests)
        .expect("read");
    let outcome = second.put_blob(&layers[0], None, &|_| unreachable!(), &|_| {});
    let from = "team/first".to_owned();
    assert_eq!(outcome.expect("mounted"), BlobOutcome::Mounted { from });
}

#[test]
fn many_pull_and_push_at_once() {
    let here = Shelf::new();
    let counter = Counter::open(Access::PullAndPush);
    let ids: Vec<ImageId> = (0..6)
        .map(|number| here.image(&format!("app:{number}"), &["shared", &number.to_string()]))
        .collect();
    std::thread::scope(|scope| {
        for (number, id) in ids.iter().enumerate() {
            let (here, counter) = (&here, &counter);
            scope.spawn(move || {
                let remote = counter.remote(&format!("app:{number}"));
                push(&here.store, *id, remote.clone()).expect("pushed");
                let third = Shelf::new();
                assert_eq!(pull(&third.store, &remote, "x:1").expect("pulled"), *id);
            });
        }
    });
    assert_eq!(counter.remote("app").tags().expect("tags").len(), 6);
}
