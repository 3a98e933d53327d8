//! Laws of copying everything as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use oci::{Descriptor, Digest, Index, MediaType, Platform};
use store::{
    Archive, ArchiveError, CopyError, ExchangeError, Extent, LayoutTarget, Pick, Side, Source,
    StoreError, mirror,
};
use tempfile::TempDir;

use crate::memory::{LayerBytes, MemorySource, Trouble, decompress, options};

fn add_index(source: &mut MemorySource, manifests: Vec<Descriptor>) -> Descriptor {
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX.into()),
        manifests,
        annotations: None,
    };
    source.add(
        MediaType::OCI_INDEX,
        serde_json::to_vec(&index).expect("json"),
    )
}

fn for_platform(manifest: Descriptor, platform: &str) -> Descriptor {
    Descriptor {
        platform: Some(platform.parse().expect("a platform")),
        ..manifest
    }
}

/// An index with an image for arm64 in an index of its own.
pub(crate) fn several() -> (MemorySource, Descriptor) {
    let mut source = MemorySource::image(&[b"shared", b"of arm64"], LayerBytes::Gzip);
    let arm64 = source.root().clone();
    let other = MemorySource::image(&[b"shared", b"of amd64"], LayerBytes::Tar);
    let amd64 = other.root().clone();
    source.blobs.extend(other.blobs);
    let inner = add_index(
        &mut source,
        vec![for_platform(arm64.clone(), "linux/arm64")],
    );
    let entries = vec![
        for_platform(amd64, "linux/amd64"),
        for_platform(inner, "linux/arm64"),
    ];
    source.root = Some(add_index(&mut source, entries));
    (source, arm64)
}

fn opened(path: &Path) -> Result<Archive, ArchiveError> {
    Archive::open_outside(path, &std::env::temp_dir(), &decompress)
}

fn copied(
    source: &dyn Source,
    root: &Path,
    extent: &Extent,
    name: Option<&str>,
) -> Result<Descriptor, CopyError> {
    let layout = LayoutTarget::open(root).expect("a layout");
    let copied = mirror(source, &layout, extent, &options(&|_| {}))?;
    layout.name(&copied.named, name).expect("named");
    Ok(copied.named)
}

fn blobs(root: &Path) -> BTreeSet<Digest> {
    let blobs = fs::read_dir(root.join("blobs/sha256")).expect("blobs");
    let digest = |path: &Path| {
        let bytes = fs::read(path).expect("a blob");
        let digest = Digest::of(&bytes);
        assert_eq!(
            path.file_name().and_then(|name| name.to_str()),
            Some(&*digest.hex())
        );
        digest
    };
    blobs
        .map(|entry| digest(&entry.expect("an entry").path()))
        .collect()
}

#[test]
fn an_index_goes_with_everything_that_it_leads_to() {
    let (source, _) = several();
    let place = TempDir::new().expect("a directory");
    let root = place.path().join("layout");
    let whole = copied(&source, &root, &Extent::Whole, Some("v1")).expect("copied");
    assert_eq!(whole.digest, source.root().digest);
    assert_eq!(blobs(&root), source.blobs.keys().copied().collect());

    let archive = opened(&root).expect("a layout");
    let image = archive.image(&Pick::Name("v1".into())).expect("an image");
    let next = place.path().join("next");
    let again = copied(&image.source, &next, &Extent::Whole, None).expect("copied");
    assert_eq!(again.digest, whole.digest);
    assert_eq!(blobs(&next), blobs(&root));
}

#[test]
fn one_platform_goes_with_nothing_else() {
    let (source, arm64) = several();
    let place = TempDir::new().expect("a directory");
    let platform: Platform = "linux/arm64".parse().expect("a platform");
    let one = copied(&source, place.path(), &Extent::Platform(platform), None).expect("copied");
    assert_eq!(one.digest, arm64.digest);
    let manifest = source.manifest_of(&arm64.digest);
    let mut expected: BTreeSet<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
    expected.extend([arm64.digest, manifest.config.digest]);
    assert_eq!(blobs(place.path()), expected);
}

#[test]
fn what_fails_leaves_the_names_as_they_were() {
    let place = TempDir::new().expect("a directory");
    let first = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    copied(&first, place.path(), &Extent::Whole, Some("v1")).expect("copied");
    let index = fs::read(place.path().join("index.json")).expect("names");
    let known = blobs(place.path());

    let second = MemorySource::image(&[b"two"], LayerBytes::Gzip);
    let layer = second.layer(0);
    second.trouble(layer.digest, &[Trouble::Corrupt, Trouble::Corrupt]);
    copied(&second, place.path(), &Extent::Whole, Some("v1")).expect_err("damaged");
    assert_eq!(
        fs::read(place.path().join("index.json")).expect("names"),
        index
    );
    assert!(!blobs(place.path()).contains(&layer.digest));
    assert!(known.is_subset(&blobs(place.path())));

    // A copy that was killed leaves such a file; the next one removes it.
    let partial = place.path().join(".left.partial");
    fs::write(&partial, "half").expect("written");
    copied(&second, place.path(), &Extent::Whole, Some("v1")).expect("copied");
    assert!(!partial.exists());
    let archive = opened(place.path()).expect("a layout");
    assert_eq!(archive.images().expect("images").len(), 1);
    archive
        .image(&Pick::Name("v2".into()))
        .expect_err("no such name");
}

#[test]
fn indexes_without_end_are_refused() {
    let mut source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let mut deepest = source.root().clone();
    for _ in 0..6 {
        deepest = add_index(&mut source, vec![deepest]);
    }
    source.root = Some(deepest);
    let place = TempDir::new().expect("a directory");
    let error = copied(&source, place.path(), &Extent::Whole, None).expect_err("deep");
    assert!(matches!(error, CopyError::NestedIndex(_)), "{error}");

    let mut wide = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let manifest = wide.manifest_of(&wide.root().digest);
    let mut entries = Vec::new();
    for number in 0..1001 {
        let mut manifest = manifest.clone();
        manifest.annotations = Some([("number".to_owned(), number.to_string())].into());
        let bytes = serde_json::to_vec(&manifest).expect("json");
        entries.push(wide.add(MediaType::OCI_MANIFEST, bytes));
    }
    wide.root = Some(add_index(&mut wide, entries));
    let error = copied(&wide, place.path(), &Extent::Whole, None).expect_err("wide");
    assert!(
        matches!(error, CopyError::TooManyManifests { .. }),
        "{error}"
    );

    let mut entries = Vec::new();
    for number in 0..20 {
        let mut manifest = manifest.clone();
        let padding = format!("{number}{}", " ".repeat(4_000_000));
        manifest.annotations = Some([("padding".to_owned(), padding)].into());
        let bytes = serde_json::to_vec(&manifest).expect("json");
        entries.push(wide.add(MediaType::OCI_MANIFEST, bytes));
    }
    wide.root = Some(add_index(&mut wide, entries));
    let error = copied(&wide, place.path(), &Extent::Whole, None).expect_err("large");
    assert!(
        matches!(error, CopyError::ManifestsTooLarge { .. }),
        "{error}"
    );
    assert!(blobs(place.path()).is_empty());
}

#[test]
fn a_damaged_blob_of_a_layout_is_copied_again() {
    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let place = TempDir::new().expect("a directory");
    copied(&source, place.path(), &Extent::Whole, Some("v1")).expect("copied");
    let layer = place
        .path()
        .join("blobs/sha256")
        .join(source.layer(0).digest.hex());
    let mut bytes = fs::read(&layer).expect("read");
    bytes[12] ^= 1;
    fs::write(&layer, bytes).expect("written");
    copied(&source, place.path(), &Extent::Whole, Some("v2")).expect("copied");
    assert_eq!(blobs(place.path()), source.blobs.keys().copied().collect());
}

#[test]
fn a_layout_that_cannot_be_read_is_not_written() {
    for (file, text) in [
        ("index.json", "garbage"),
        ("index.json", "[]"),
        ("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#),
    ] {
        let place = TempDir::new().expect("a directory");
        drop(LayoutTarget::open(place.path()).expect("a layout"));
        fs::write(place.path().join(file), text).expect("written");
        let error = LayoutTarget::open(place.path()).expect_err(text);
        let path = place.path().display().to_string();
        assert!(error.to_string().contains(&path), "{error}");
        assert_eq!(
            fs::read_to_string(place.path().join(file)).expect("read"),
            text
        );
    }
}

#[test]
fn a_pipe_is_no_archive_to_read_in_place() {
    let place = TempDir::new().expect("a directory");
    let pipe = place.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|made| made.success()));
    let error = opened(&pipe).expect_err("a pipe");
    assert!(matches!(error, ArchiveError::NoFile), "{error}");
}

#[test]
fn a_directory_with_other_files_is_no_layout() {
    let place = TempDir::new().expect("a directory");
    fs::write(place.path().join("precious"), "").expect("written");
    let error = LayoutTarget::open(place.path()).expect_err("no layout");
    assert!(matches!(error, StoreError::NotALayout { .. }), "{error}");
    assert_eq!(fs::read_dir(place.path()).expect("read").count(), 1);
}

#[test]
fn a_layout_that_a_failed_copy_made_goes_with_all_of_it() {
    let place = TempDir::new().expect("a directory");
    let root = place.path().join("above/layout");
    let layout = LayoutTarget::open(&root).expect("a layout");
    assert!(root.join("index.json").exists());
    layout.abandon();
    assert_eq!(fs::read_dir(place.path()).expect("lists").count(), 0);

    drop(LayoutTarget::open(&root).expect("a layout"));
    LayoutTarget::open(&root).expect("there").abandon();
    assert!(root.join("index.json").exists(), "it was there before");
}

#[test]
fn who_waited_for_a_layout_that_went_makes_it_again() {
    let place = TempDir::new().expect("a directory");
    let root = place.path().join("layout");
    let first = LayoutTarget::open(&root).expect("a layout");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| LayoutTarget::open(&root).map(drop));
        first.abandon();
        second.join().expect("no panic").expect("a layout");
    });
    assert!(root.join("index.json").exists());
}

#[test]
fn a_target_that_judges_nothing_gets_nothing_wrong() {
    /// Takes anything, as a registry that answers only that a digest is invalid.
    struct Credulous(std::sync::Mutex<Vec<Vec<u8>>>);

    impl store::Target for Credulous {
        fn has_blob(&self, _: &Descriptor, _: Option<&oci::DiffId>) -> Result<bool, ExchangeError> {
            Ok(false)
        }

        fn put_blob(
            &self,
            _: &Descriptor,
            _: Option<&oci::DiffId>,
            open: &store::OpenBlob<'_>,
            _: &store::Progress<'_>,
        ) -> Result<store::BlobOutcome, ExchangeError> {
            let mut bytes = Vec::new();
            let read = open(0)?.read_to_end(&mut bytes);
            read.map_err(|_| ExchangeError::permanent("cannot read"))?;
            self.0.lock().expect("lock").push(bytes);
            Ok(store::BlobOutcome::Stored)
        }

        fn verifies_blobs(&self) -> bool {
            false
        }

        fn put_manifest(&self, _: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
            Ok(Digest::of(bytes))
        }
    }

    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let layer = source.layer(0).digest;
    let target = Credulous(std::sync::Mutex::default());
    source.trouble(layer, &[Trouble::Corrupt]);
    mirror(&source, &target, &Extent::Whole, &options(&|_| {})).expect("right the second time");
    let come = target.0.lock().expect("lock").clone();
    assert!(come.contains(&source.blobs[&layer]));

    source.trouble(layer, &[Trouble::Corrupt, Trouble::Corrupt]);
    let error = mirror(&source, &target, &Extent::Whole, &options(&|_| {})).expect_err("damaged");
    assert_eq!(error.side(), Side::Source);
    let found = Digest::of(&{
        let mut bytes = source.blobs[&layer].clone();
        bytes[0] ^= 1;
        bytes
    });
    assert_eq!(
        error.to_string(),
        format!("content digest is {found}, expected {layer}")
    );

    source.trouble(layer, &[Trouble::FailsAfter(3); 8]);
    let error = mirror(&source, &target, &Extent::Whole, &options(&|_| {})).expect_err("broken");
    assert_eq!(error.side(), Side::Source, "{error}");
}

#[test]
fn an_image_for_another_platform_is_told() {
    let (several, _) = several();
    let one = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let place = TempDir::new().expect("a directory");
    let layout = LayoutTarget::open(place.path()).expect("a layout");
    for (source, platform, expected) in [
        (&one, "linux/s390x", Some("linux/amd64")),
        (&one, "linux/amd64", None),
        (&several, "linux/amd64", None),
    ] {
        let extent = Extent::Platform(platform.parse().expect("a platform"));
        let copied = mirror(source, &layout, &extent, &options(&|_| {})).expect("copied");
        let told = copied.other_platform.map(|found| found.to_string());
        assert_eq!(told.as_deref(), expected, "{platform}");
    }
}

#[test]
fn a_file_of_a_layout_that_cannot_be_read_is_named() {
    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let place = TempDir::new().expect("a directory");
    copied(&source, place.path(), &Extent::Whole, None).expect("copied");
    let name = format!("blobs/sha256/{}", source.layer(0).digest.hex());
    let layer = place.path().join(&name);
    fs::remove_file(&layer).expect("there");
    std::os::unix::fs::symlink(&layer, &layer).expect("a circle");
    let archive = opened(place.path()).expect("a layout");
    let image = archive.image(&Pick::Only).expect("an image");
    let other = TempDir::new().expect("a directory");
    let error = copied(&image.source, other.path(), &Extent::Whole, None).expect_err("a circle");
    assert_eq!(error.side(), Side::Source);
    assert_eq!(error.to_string(), format!("cannot read `{name}`"));
}
