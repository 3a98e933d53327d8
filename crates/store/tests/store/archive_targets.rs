//! Laws of archives as targets of a copy.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use oci::{DiffId, Digest, Reference};
use store::{
    Archive, ArchiveError, CopyError, CopyOptions, DockerArchiveTarget, Extent,
    LayoutArchiveTarget, ManifestPolicy, Pick, SavedImage, Side, Source, StoreError, StoreTarget,
    copy, mirror, save,
};
use tempfile::TempDir;

use crate::fixture::{Fixture, config_with};
use crate::memory::{LayerBytes, MemorySource, Trouble, decompress, gzip, options, unpack};
use crate::mirroring::several;

fn place() -> TempDir {
    TempDir::new().expect("a directory")
}

fn to_docker(source: &dyn Source, path: &Path, names: &[&str]) -> Result<(), CopyError> {
    let names = names
        .iter()
        .map(|name| Reference::parse(name).expect("valid"));
    let names: Vec<Reference> = names.collect();
    let target = DockerArchiveTarget::create(path, &names, &decompress).expect("begun");
    let options = CopyOptions {
        parallel: 1,
        ..options(&|_| {})
    };
    copy(source, &target, &options)?;
    target.finish().expect("finished");
    Ok(())
}

fn to_layout(source: &dyn Source, path: &Path, name: Option<&str>) -> Result<(), CopyError> {
    let target = LayoutArchiveTarget::create(path).expect("begun");
    let copied = mirror(source, &target, &Extent::Whole, &options(&|_| {}))?;
    target.finish(&copied.named, name).expect("finished");
    Ok(())
}

fn opened(path: &Path) -> Result<Archive, ArchiveError> {
    Archive::open_outside(path, &std::env::temp_dir(), &decompress)
}

/// Returns the files of a tar by name.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).expect("read");
    assert!(bytes.len().is_multiple_of(512));
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a tar");
        let name = entry.path().expect("text").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        assert!(files.insert(name, content).is_none(), "each file once");
    }
    files
}

/// The same layer twice, and one that is empty.
fn repeating(form: LayerBytes) -> MemorySource {
    MemorySource::image(&[b"below", b"", b"above", b"below"], form)
}

#[test]
fn a_docker_archive_holds_what_save_writes() {
    let place = place();
    let path = place.path().join("copied.tar");
    let source = repeating(LayerBytes::Gzip);
    to_docker(&source, &path, &["a:1", "q.io/b:2"]).expect("copied");

    let fixture = Fixture::new();
    let store = fixture.open();
    // As an image that was made here: it has no manifest of its own.
    let target = StoreTarget::new(&store, &unpack).manifests(ManifestPolicy::Discard);
    let image = copy(&source, &target, &options(&|_| {})).expect("copied");
    let names = ["a:1", "q.io/b:2"].map(|name| Reference::parse(name).expect("valid"));
    let saved = place.path().join("saved.tar");
    let image = SavedImage {
        id: image.image,
        names: names.to_vec(),
    };
    let mut out = fs::File::create(&saved).expect("created");
    save(&store, &[image], &mut out).expect("saved");
    assert_eq!(files(&path), files(&saved));
}

#[test]
fn a_docker_archive_depends_on_the_image_and_its_names_only() {
    let place = place();
    let (first, second) = (place.path().join("1.tar"), place.path().join("2.tar"));
    to_docker(&repeating(LayerBytes::Gzip), &first, &["a:1"]).expect("copied");
    let broken = repeating(LayerBytes::Tar);
    broken.trouble(broken.layer(0).digest, &[Trouble::Corrupt]);
    broken.trouble(broken.layer(2).digest, &[Trouble::EndsAfter(2)]);
    to_docker(&broken, &second, &["a:1"]).expect("copied");
    assert!(fs::read(&first).expect("read") == fs::read(&second).expect("read"));
    let image = opened(&second).expect("an archive").image(&Pick::Only);
    let image = image.expect("an image");
    assert_eq!(image.names, [Reference::parse("a:1").expect("valid")]);
}

#[test]
fn wrong_content_is_the_sources_fault_and_leaves_no_archive() {
    let place = place();
    let path = place.path().join("new.tar");
    for form in [LayerBytes::Gzip, LayerBytes::Tar] {
        let damaged = MemorySource::image(&[b"one", b"two"], form);
        let layer = damaged.layer(1).digest;
        damaged.trouble(layer, &[Trouble::Corrupt, Trouble::Corrupt]);
        let docker = to_docker(&damaged, &path, &[]).expect_err("damaged");
        damaged.trouble(layer, &[Trouble::Corrupt, Trouble::Corrupt]);
        let layout = to_layout(&damaged, &path, None).expect_err("damaged");
        for error in [docker, layout] {
            assert_eq!(error.side(), Side::Source);
            assert!(error.to_string().contains(&layer.to_string()), "{error}");
        }
    }
    let mut lying = MemorySource::default();
    let layer = lying.add(oci::MediaType::OCI_LAYER_GZIP, gzip(b"content"));
    let config = config_with(&[DiffId(Digest::of(b"other content"))], "lying");
    lying.set_manifest(config, vec![layer]);
    let error = to_docker(&lying, &path, &[]).expect_err("another layer");
    assert_eq!(error.side(), Side::Source);
    assert!(error.to_string().starts_with("layer unpacks to"), "{error}");
    assert_eq!(fs::read_dir(place.path()).expect("lists").count(), 0);
}

#[test]
fn an_archive_of_a_layout_has_everything_byte_for_byte() {
    let (source, arm64) = several();
    let place = place();
    let path = place.path().join("new.tar");
    to_layout(&source, &path, Some("v1")).expect("copied");
    let mut found = files(&path);
    for (digest, bytes) in &source.blobs {
        let name = format!("blobs/sha256/{}", digest.hex());
        assert_eq!(found.remove(&name).as_ref(), Some(bytes), "{name}");
    }
    let rest: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        rest,
        ["blobs/", "blobs/sha256/", "index.json", "oci-layout"]
    );

    let archive = opened(&path).expect("an archive");
    for pick in [
        Pick::Only,
        Pick::Name("v1".into()),
        Pick::Digest(source.root().digest),
    ] {
        let image = archive.image(&pick).expect("there");
        let resolved = image.source.resolve().expect("read");
        assert_eq!(resolved.descriptor.digest, source.root().digest);
    }
    let inner = archive.image(&Pick::Digest(arm64.digest)).expect("below");
    let resolved = inner.source.resolve().expect("read");
    assert_eq!(resolved.bytes, source.blobs[&arm64.digest]);
    let root: serde_json::Value =
        serde_json::from_slice(&source.blobs[&source.root().digest]).expect("json");
    let amd64: Digest = root["manifests"][0]["digest"]
        .as_str()
        .expect("text")
        .parse()
        .expect("a digest");
    let id = source.manifest_of(&amd64).config.digest;
    let by_id = archive.image(&Pick::Digest(id)).expect("in the index");
    let resolved = by_id.source.resolve().expect("read");
    assert_eq!(resolved.descriptor.digest, amd64);
    archive
        .image(&Pick::Digest(Digest::of(b"nothing")))
        .expect_err("not there");
}

#[test]
fn an_archive_of_a_layout_depends_on_its_content_only() {
    let place = place();
    let mut archives = Vec::new();
    for number in 0..8 {
        let (source, _) = several();
        if number == 1 {
            for digest in source.blobs.keys() {
                source.trouble(*digest, &[Trouble::EndsAfter(1), Trouble::Corrupt]);
            }
        }
        let path = place.path().join(number.to_string());
        to_layout(&source, &path, None).expect("copied");
        archives.push(fs::read(path).expect("read"));
    }
    assert!(archives.iter().all(|archive| *archive == archives[0]));
}

#[test]
fn what_is_there_is_not_replaced() {
    let place = place();
    let path = place.path().join("precious");
    fs::write(&path, "precious").expect("written");
    let docker = DockerArchiveTarget::create(&path, &[], &decompress).expect_err("there");
    let layout = LayoutArchiveTarget::create(&path).expect_err("there");
    let directory = LayoutArchiveTarget::create(place.path()).expect_err("there");
    for error in [docker, layout, directory] {
        assert!(matches!(error, StoreError::FileExists { .. }), "{error}");
    }
    assert_eq!(fs::read(&path).expect("read"), b"precious");
}

#[test]
fn layers_in_several_compressions_are_one_layer() {
    let mut source = MemorySource::default();
    let layers = vec![
        source.add(oci::MediaType::OCI_LAYER_GZIP, gzip(b"content")),
        source.add(oci::MediaType::OCI_LAYER, b"content".to_vec()),
    ];
    let diff_id = DiffId(Digest::of(b"content"));
    source.set_manifest(config_with(&[diff_id, diff_id], "twice"), layers);
    let place = place();
    let path = place.path().join("new.tar");
    to_docker(&source, &path, &[]).expect("copied");
    let name = format!("blobs/sha256/{}", diff_id.digest().hex());
    assert_eq!(files(&path)[&name], b"content");
    opened(&path)
        .expect("an archive")
        .image(&Pick::Only)
        .expect("an image");
}

#[test]
fn compressed_archives_are_read_like_others() {
    let place = place();
    let plain = place.path().join("plain.tar");
    let (source, _) = several();
    to_layout(&source, &plain, Some("v1")).expect("copied");
    let packed = place.path().join("packed.tar.gz");
    fs::write(&packed, gzip(&fs::read(&plain).expect("read"))).expect("written");
    let spool = place.path().join("spool");
    fs::create_dir(&spool).expect("a directory");
    let archive = Archive::open_outside(&packed, &spool, &decompress).expect("opened");
    let image = archive.image(&Pick::Name("v1".into())).expect("there");
    let again = place.path().join("again.tar");
    to_layout(&image.source, &again, Some("v1")).expect("copied");
    assert!(fs::read(&again).expect("read") == fs::read(&plain).expect("read"));
    assert_eq!(fs::read_dir(&spool).expect("lists").count(), 0);

    let missing = place.path().join("missing");
    let error = Archive::open_outside(&packed, &missing, &decompress).expect_err("no directory");
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn layers_come_in_turn_whatever_is_asked() {
    let place = place();
    let path = place.path().join("new.tar");
    let source = repeating(LayerBytes::Gzip);
    let target = DockerArchiveTarget::create(&path, &[], &decompress).expect("begun");
    let options = CopyOptions {
        parallel: 8,
        ..options(&|_| {})
    };
    copy(&source, &target, &options).expect("copied");
    target.finish().expect("finished");
    assert_eq!(files(&path).len(), 10);
}
