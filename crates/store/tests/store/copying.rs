//! Laws of copying.

use std::error::Error;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzEncoder;
use oci::{Descriptor, DiffId, Digest, Index, MediaType, Reference};
use store::{
    BlobOutcome, Compress, Copied, CopyError, CopyOutcome, Event, ExchangeError, Force, OpenBlob,
    Packing, Progress, Reuse, Side, Store, StoreError, StoreTarget, Target, copy, push,
    until_named,
};

use crate::fixture::{Fixture, config_with};
use crate::memory::{LayerBytes, MemorySource, Trouble, gzip, options, unpack};

fn pull(store: &Store, source: &MemorySource) -> Result<Copied, CopyError> {
    copy(source, &StoreTarget::new(store, &unpack), &options(&|_| {}))
}

fn kinds(events: Vec<Event>) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::Image { .. } => "image",
        Event::LayerQueued { .. } => "queued",
        Event::LayerExists { .. } => "exists",
        Event::LayerStarted { .. } => "started",
        Event::LayerResumed { .. } => "resumed",
        Event::LayerProgress { .. } => "progress",
        Event::LayerRetry { .. } => "retry",
        Event::LayerDone { .. } => "done",
    };
    events.iter().map(kind).collect()
}

fn packing<'a>(compress: &'a Compress<'a>) -> Packing<'a> {
    Packing {
        compress,
        reuse: Reuse::All,
        manifest: None,
        fetch: None,
    }
}

fn compress(
    tar: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<MediaType, Box<dyn Error + Send + Sync>> {
    std::io::copy(&mut GzEncoder::new(tar, Compression::fast()), out)?;
    Ok(MediaType::OCI_LAYER_GZIP.into())
}

#[test]
fn a_pulled_image_keeps_its_bytes_and_its_blobs() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
    let copied = pull(&store, &source).expect("copied");
    assert_eq!(copied.outcome, CopyOutcome::Copied);
    assert_eq!(copied.manifest.digest, source.root().digest);
    let (media_type, bytes) = store.manifest_of(&copied.image).expect("read");
    assert_eq!(media_type.0, MediaType::OCI_MANIFEST);
    assert_eq!(Digest::of(&bytes), source.root().digest);
    for (digest, content) in &source.blobs {
        assert_eq!(&store.read_blob(digest, 10_000).expect("kept"), content);
    }
    for tar in [b"one", b"two"] {
        let layer = DiffId(Digest::of(tar));
        assert!(store.has_layer(&layer).expect("read"));
        assert_eq!(store.compressed(&layer).expect("read").len(), 1);
    }
    let image = store.image(&copied.image).expect("read").expect("there");
    assert!(image.received);
    assert_eq!(image.size, 6);
}

#[test]
fn an_image_that_is_removed_before_it_has_its_name_is_copied_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
    let name = Reference::parse("app:1").expect("valid");
    let removals = Mutex::new(0);
    let named = |copied: &Copied| {
        let mut removals = removals.lock().expect("not poisoned");
        if *removals < 2 {
            *removals += 1;
            let removed = store.remove_image(&copied.image.to_string(), Force::No);
            removed.expect("without a name");
        }
        store.tag(&name, &copied.image, None)
    };
    let lock = store.lock_shared().expect("locked");
    let copied = until_named::<Box<dyn Error>>(|| pull(&store, &source), named).expect("named");
    drop(lock);
    assert_eq!(*removals.lock().expect("not poisoned"), 2);
    assert_eq!(store.tagged(&name).expect("read"), Some(copied.image));
    // One that is always removed is not copied for ever.
    let gone = |_: &Copied| Err(StoreError::ImageNotFound(copied.image));
    until_named::<Box<dyn Error>>(|| pull(&store, &source), gone).expect_err("removed");
}

#[test]
fn an_uncompressed_layer_is_stored_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"plain tar"], LayerBytes::Tar);
    pull(&store, &source).expect("copied");
    let layer = source.layer(0).digest;
    assert!(!store.root().join("blobs/sha256").join(layer.hex()).exists());
    assert_eq!(store.read_blob(&layer, 100).expect("read"), b"plain tar");
}

#[test]
fn what_is_there_is_not_copied_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
    pull(&store, &source).expect("copied");
    let again = pull(&store, &source).expect("copied");
    assert_eq!(again.outcome, CopyOutcome::UpToDate);
    let other = MemorySource::image(&[b"one", b"three"], LayerBytes::Gzip);
    let events = Mutex::new(Vec::new());
    let seen = |event| events.lock().expect("lock").push(event);
    let target = StoreTarget::new(&store, &unpack);
    copy(&other, &target, &options(&seen)).expect("copied");
    let kinds = kinds(events.into_inner().expect("lock"));
    assert_eq!(
        kinds,
        ["image", "exists", "queued", "started", "progress", "done"]
    );
    assert!(other.offsets(&other.layer(0).digest).is_empty());
}

#[test]
fn a_layer_that_stands_twice_is_copied_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"same", b"other", b"same"], LayerBytes::Gzip);
    let copied = pull(&store, &source).expect("copied");
    assert_eq!(source.offsets(&source.layer(0).digest), [0]);
    let image = store.image(&copied.image).expect("read").expect("there");
    assert_eq!(image.layers.len(), 3);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    for form in [LayerBytes::Gzip, LayerBytes::Tar] {
        let fixture = Fixture::new();
        let store = fixture.open();
        let source = MemorySource::image(&[b"a layer of some length"], form);
        let layer = source.layer(0);
        source.trouble(
            layer.digest,
            &[Trouble::EndsAfter(5), Trouble::FailsAfter(3)],
        );
        let events = Mutex::new(Vec::new());
        let seen = |event| events.lock().expect("lock").push(event);
        let target = StoreTarget::new(&store, &unpack);
        copy(&source, &target, &options(&seen)).expect("copied");
        assert_eq!(source.offsets(&layer.digest), [0, 5, 8]);
        let kinds = kinds(events.into_inner().expect("lock"));
        assert_eq!(kinds.iter().filter(|kind| **kind == "retry").count(), 2);
    }
}

#[test]
fn a_download_of_a_killed_process_is_resumed() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"a layer of some length"], LayerBytes::Gzip);
    let layer = source.layer(0);
    let mut writer = store.blob_writer(&layer).expect("started");
    writer
        .write_all(&source.blobs[&layer.digest][..7])
        .expect("written");
    drop(writer);
    pull(&store, &source).expect("copied");
    assert_eq!(source.offsets(&layer.digest), [7]);
}

#[test]
fn wrong_content_is_fetched_once_more_and_then_reported_with_both_digests() {
    for form in [LayerBytes::Gzip, LayerBytes::Tar] {
        let fixture = Fixture::new();
        let store = fixture.open();
        let source = MemorySource::image(&[b"content"], form);
        let layer = source.layer(0).digest;
        source.trouble(layer, &[Trouble::Corrupt]);
        if matches!(form, LayerBytes::Gzip) {
            pull(&store, &source).expect("the second time is right");
            continue;
        }
        source.trouble(layer, &[Trouble::Corrupt, Trouble::Corrupt]);
        let error = pull(&store, &source).expect_err("wrong twice");
        assert_eq!(error.side(), Side::Source);
        let mut wrong = source.blobs[&layer].clone();
        wrong[0] ^= 1;
        let found = Digest::of(&wrong);
        assert_eq!(
            error.to_string(),
            format!("content digest is {found}, expected {layer}")
        );
        assert!(store.images().expect("read").is_empty());
        assert!(!store.has_blob(&layer).expect("read"));
    }
}

#[test]
fn content_longer_than_announced_is_wrong() {
    for form in [LayerBytes::Gzip, LayerBytes::Tar] {
        let fixture = Fixture::new();
        let store = fixture.open();
        let source = MemorySource::image(&[b"content"], form);
        let layer = source.layer(0).digest;
        source.trouble(layer, &[Trouble::TooLong, Trouble::TooLong]);
        let error = pull(&store, &source).expect_err("too long");
        assert_eq!(error.side(), Side::Source);
        assert!(error.to_string().contains("bytes, expected"), "{error}");
    }
}

#[test]
fn a_layer_that_unpacks_to_something_else_is_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut source = MemorySource::default();
    let layer = source.add(MediaType::OCI_LAYER_GZIP, gzip(b"evil"));
    let promised = DiffId(Digest::of(b"good"));
    source.set_manifest(config_with(&[promised], "x"), vec![layer]);
    let error = pull(&store, &source).expect_err("refused");
    assert_eq!(error.side(), Side::Source);
    assert_eq!(
        error.to_string(),
        format!(
            "layer unpacks to {}, image configuration expects {promised}",
            Digest::of(b"evil")
        )
    );
    assert!(!store.has_layer(&promised).expect("read"));
    assert!(store.images().expect("read").is_empty());
}

#[test]
fn a_broken_configuration_is_fetched_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let config = source.manifest_of(&source.root().digest).config.digest;
    source.trouble(config, &[Trouble::FailsAfter(4)]);
    pull(&store, &source).expect("copied");
    assert_eq!(source.offsets(&config), [0, 4]);
}

#[test]
fn a_source_that_refuses_is_named_as_the_failing_side() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
    source.trouble(source.layer(1).digest, &[Trouble::Refused]);
    let error = pull(&store, &source).expect_err("refused");
    assert_eq!(error.side(), Side::Source);
    assert_eq!(error.to_string(), "refused");
}

struct Full;

impl Target for Full {
    fn has_blob(
        &self,
        _descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        Ok(false)
    }

    fn put_blob(
        &self,
        _descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
        _open: &OpenBlob<'_>,
        _progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        Err(ExchangeError::permanent("disk full"))
    }

    fn put_manifest(
        &self,
        _media_type: &MediaType,
        _bytes: &[u8],
    ) -> Result<Digest, ExchangeError> {
        Err(ExchangeError::permanent("manifest before its blobs"))
    }
}

#[test]
fn a_target_that_fails_is_named_as_the_failing_side() {
    let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
    let error = copy(&source, &Full, &options(&|_| {})).expect_err("full");
    assert_eq!(error.side(), Side::Target);
    assert_eq!(error.to_string(), "disk full");
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut source = MemorySource::default();
    let mut entries = Vec::new();
    for platform in ["linux/arm64", "linux/amd64"] {
        let tar = platform.as_bytes();
        let layer = source.add(MediaType::OCI_LAYER_GZIP, gzip(tar));
        source.set_manifest(
            config_with(&[DiffId(Digest::of(tar))], platform),
            vec![layer],
        );
        let mut entry = source.root().clone();
        entry.platform = Some(platform.parse().expect("valid"));
        entries.push(entry);
    }
    let index = |manifests| Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX.into()),
        manifests,
        annotations: None,
    };
    let bytes = serde_json::to_vec(&index(entries.clone())).expect("json");
    source.root = Some(source.add(MediaType::OCI_INDEX, bytes));
    let copied = pull(&store, &source).expect("copied");
    assert_eq!(copied.named.digest, source.root().digest);
    assert_eq!(copied.manifest.digest, entries[1].digest);
    let mut wanted = options(&|_| {});
    wanted.platform = "linux/s390x".parse().expect("valid");
    let error = copy(&source, &StoreTarget::new(&store, &unpack), &wanted).expect_err("none");
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/s390x in the manifest list entries"
    );
}

#[test]
fn documents_that_lie_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let check = |change: &dyn Fn(&mut MemorySource), expected: &str| {
        let mut source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
        change(&mut source);
        let error = pull(&store, &source).expect_err(expected);
        assert_eq!(error.side(), Side::Source);
        let text = error.to_string();
        assert!(text.contains(expected), "{text} is not about {expected}");
    };
    check(
        &|source| {
            let root = source.root().digest;
            source.blobs.get_mut(&root).expect("there").push(b' ');
        },
        "manifest digest is",
    );
    check(
        &|source| {
            let config = source.manifest_of(&source.root().digest).config.digest;
            source.blobs.get_mut(&config).expect("there")[10] ^= 1;
        },
        "image configuration digest is",
    );
    check(
        &|source| source.set_manifest(config_with(&[], "x"), vec![source.layer(0)]),
        "image configuration",
    );
    check(
        &|source| {
            let mut layer = source.layer(0);
            layer.media_type = "text/html".into();
            let diff_id = DiffId(Digest::of(b"one"));
            source.set_manifest(config_with(&[diff_id], "x"), vec![layer]);
        },
        "unsupported layer media type `text/html`",
    );
    for foreign in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        check(
            &|source| {
                let mut layer = source.layer(0);
                layer.media_type = foreign.into();
                layer.urls = Some(vec!["https://elsewhere.example/layer".to_owned()]);
                let diff_id = DiffId(Digest::of(b"one"));
                source.set_manifest(config_with(&[diff_id], "x"), vec![layer]);
            },
            foreign,
        );
    }
    for count in [2001, 10_000] {
        check(
            &|source| {
                let layers = vec![source.layer(0); count];
                source.set_manifest(config_with(&[], "x"), layers);
            },
            &format!("names {count} layers, limit 2000"),
        );
    }
    check(
        &|source| {
            let bytes = br#"{"schemaVersion":2,"config":{"mediaType":"x","size":9999999999,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}"#;
            source.root = Some(source.add(MediaType::OCI_MANIFEST, bytes.to_vec()));
        },
        "has 9999999999 bytes, limit 8388608",
    );
    check(
        &|source| {
            let bytes = b"<html>".to_vec();
            source.root = Some(source.add(MediaType::OCI_MANIFEST, bytes));
        },
        "manifest sha256:",
    );
    assert!(store.images().expect("read").is_empty());
}

#[test]
fn a_layer_of_an_absurd_size_is_refused_before_it_is_fetched() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for size in [1 << 50, u64::MAX] {
        let mut source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
        let mut layer = source.layer(0);
        layer.size = size;
        let diff_id = DiffId(Digest::of(b"one"));
        source.set_manifest(config_with(&[diff_id], "x"), vec![layer]);
        let error = pull(&store, &source).expect_err("absurd");
        assert_eq!(error.side(), Side::Target);
        let text = error.to_string();
        assert!(text.contains("not enough space in"), "{text}");
    }
}

#[test]
fn two_copies_at_once_share_the_download() {
    let fixture = Fixture::new();
    let content: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let source = MemorySource::image(&[&content], LayerBytes::Gzip);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&fixture.open(), &source).expect("copied"));
        }
    });
    assert_eq!(source.offsets(&source.layer(0).digest), [0]);
    let store = fixture.open();
    assert_eq!(store.images().expect("read").len(), 1);
    store.sweep().expect("swept");
    assert_eq!(
        std::fs::read_dir(store.ingest_dir()).expect("read").count(),
        0
    );
}

#[test]
fn a_pushed_image_arrives_whole_and_always_with_the_same_digest() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let (local, remote) = (here.open(), there.open());
    let id = here.image(&local, "pushed");
    let target = StoreTarget::new(&remote, &unpack);
    let send =
        || push(&local, &id, &packing(&compress), &target, &options(&|_| {})).expect("copied");
    let pushed = send();
    assert_eq!(pushed.image, id);
    assert_eq!(send().outcome, CopyOutcome::UpToDate);
    let image = local.image(&id).expect("read").expect("there");
    assert_eq!(
        image.manifest.expect("recorded").digest,
        pushed.manifest.digest
    );
    assert!(!image.received);
    assert_eq!(
        remote.image_config_bytes(&id).expect("there"),
        local.image_config_bytes(&id).expect("there")
    );
    let name = Reference::parse("127.0.0.1:5000/a:1").expect("valid");
    local
        .tag(&name, &id, Some(&pushed.named.digest))
        .expect("tagged");
    let by_digest = format!("127.0.0.1:5000/a@{}", pushed.named.digest);
    assert_eq!(local.resolve(&by_digest).expect("found").id, id);
}

/// A store that tells when a layer has come.
struct Telling<'a> {
    inner: StoreTarget<'a>,
    came: std::sync::mpsc::Sender<Digest>,
}

impl Target for Telling<'_> {
    fn has_blob(&self, blob: &Descriptor, layer: Option<&DiffId>) -> Result<bool, ExchangeError> {
        self.inner.has_blob(blob, layer)
    }

    fn put_blob(
        &self,
        blob: &Descriptor,
        layer: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        let outcome = self.inner.put_blob(blob, layer, open, progress)?;
        if let Some(layer) = layer {
            self.came.send(*layer.digest()).expect("the test listens");
        }
        Ok(outcome)
    }

    fn put_manifest(&self, kind: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        self.inner.put_manifest(kind, bytes)
    }
}

#[test]
fn a_layer_is_sent_while_the_next_is_compressed() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let (local, remote) = (here.open(), there.open());
    let id = here.image(&local, "beside the shared layer");
    let (came, arrivals) = std::sync::mpsc::channel();
    let target = Telling {
        inner: StoreTarget::new(&remote, &unpack),
        came,
    };
    let arrivals = std::sync::Mutex::new(arrivals);
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let waiting = |tar: &mut dyn Read, out: &mut dyn Write| {
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes)?;
        if !is_first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            let arrivals = arrivals.lock().expect("not poisoned");
            arrivals.recv_timeout(Duration::from_secs(60))?;
        }
        compress(&mut &bytes[..], out)
    };
    let pushed = push(&local, &id, &packing(&waiting), &target, &options(&|_| {})).expect("copied");
    assert_eq!(remote.images().expect("read")[0].id, id);
    let whole = Fixture::new();
    let whole = whole.open();
    let target = StoreTarget::new(&whole, &unpack);
    let again = push(&local, &id, &packing(&compress), &target, &options(&|_| {})).expect("copied");
    assert_eq!(again.manifest, pushed.manifest);
}

#[test]
fn a_push_ends_when_a_layer_cannot_be_compressed() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let (local, remote) = (here.open(), there.open());
    let id = here.image(&local, "pushed");
    let target = StoreTarget::new(&remote, &unpack);
    let failing = |_: &mut dyn Read, _: &mut dyn Write| Err("no space for it".into());
    let error =
        push(&local, &id, &packing(&failing), &target, &options(&|_| {})).expect_err("refused");
    assert_eq!(error.side(), Side::Source);
    assert!(
        format!("{error:?}").contains("no space for it"),
        "{error:?}"
    );
    push(&local, &id, &packing(&compress), &target, &options(&|_| {})).expect("copied");
}

#[test]
fn a_pulled_image_is_pushed_with_the_digest_it_had() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for form in [LayerBytes::Gzip, LayerBytes::Tar] {
        let source = MemorySource::image(&[b"one", b"two"], form);
        let copied = pull(&store, &source).expect("copied");
        let other = Fixture::new();
        let other = other.open();
        let target = StoreTarget::new(&other, &unpack);
        let pushed = push(
            &store,
            &copied.image,
            &packing(&compress),
            &target,
            &options(&|_| {}),
        );
        assert_eq!(
            pushed.expect("copied").manifest.digest,
            copied.manifest.digest
        );
    }
}

#[test]
fn dropped_compressed_blobs_are_made_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let copied = pull(&store, &source).expect("copied");
    store.drop_compressed().expect("dropped");
    store.sweep().expect("swept");
    let layer = source.layer(0).digest;
    assert!(!store.has_blob(&layer).expect("read"));
    let (_, manifest) = store.manifest_of(&copied.image).expect("generated");
    assert_ne!(Digest::of(&manifest), copied.manifest.digest);
    let other = Fixture::new();
    let other = other.open();
    let target = StoreTarget::new(&other, &unpack);
    let sent = push(
        &store,
        &copied.image,
        &packing(&compress),
        &target,
        &options(&|_| {}),
    );
    sent.expect("copied");
    assert!(store.has_blob(&layer).expect("read"));
}

#[test]
fn a_blob_without_its_layer_is_unpacked_without_fetching() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let layer = source.layer(0);
    let mut writer = store.blob_writer(&layer).expect("started");
    writer
        .write_all(&source.blobs[&layer.digest])
        .expect("written");
    writer.commit().expect("stored");
    pull(&store, &source).expect("copied");
    assert!(source.offsets(&layer.digest).is_empty());
    assert!(matches!(
        store.read_blob(&Digest::of(b"nothing"), 1),
        Err(StoreError::BlobNotFound(_))
    ));
}

/// Another compression when one is asked for, and what was received when none is.
#[test]
fn a_received_image_is_pushed_in_another_compression_and_stays_what_it_was() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let (local, remote) = (here.open(), there.open());
    let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
    let target = StoreTarget::new(&local, &unpack);
    let copied = copy(&source, &target, &options(&|_| {})).expect("copied");
    // The store does not look inside; what counts is that it is other bytes of another type.
    let other = |tar: &mut dyn Read, out: &mut dyn Write| {
        std::io::copy(&mut GzEncoder::new(tar, Compression::none()), out)?;
        Ok(MediaType::from(MediaType::OCI_LAYER_ZSTD))
    };
    let send = |reuse, target: &StoreTarget<'_>| {
        let packing = Packing {
            compress: &other,
            reuse,
            manifest: None,
            fetch: None,
        };
        push(&local, &copied.image, &packing, target, &options(&|_| {})).expect("copied")
    };
    let target = StoreTarget::new(&remote, &unpack);
    let zstd = MediaType::from(MediaType::OCI_LAYER_ZSTD);
    let other = send(Reuse::Only(zstd.clone()), &target);
    assert_ne!(other.manifest.digest, copied.manifest.digest);
    assert_eq!(other.image, copied.image);
    let bytes = remote
        .read_blob(&other.manifest.digest, 1 << 20)
        .expect("there");
    let manifest = String::from_utf8(bytes).expect("text");
    assert_eq!(manifest.matches(&zstd.0).count(), 2, "{manifest}");
    assert!(!manifest.contains("tar+gzip"), "{manifest}");
    let elsewhere = Fixture::new();
    let elsewhere = elsewhere.open();
    let target = StoreTarget::new(&elsewhere, &unpack);
    let same = send(Reuse::All, &target);
    assert_eq!(same.manifest.digest, copied.manifest.digest);
    let gzip = MediaType::from(MediaType::OCI_LAYER_GZIP);
    assert_eq!(
        send(Reuse::Only(gzip), &target).manifest.digest,
        copied.manifest.digest
    );
}
