//! Laws of looking at a layer again: nothing that changed is missed.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use layer::{IngestError, VerifyError, verify};
use testkit::random::{self, Random};

use crate::compare::Layer;

/// Flips one bit of a file.
fn flip(path: &Path, random: &mut Random) -> usize {
    let length = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    let (position, bit) = (random.below(length), random.below(8));
    flip_at(path, position, bit);
    position
}

fn flip_at(path: &Path, position: usize, bit: usize) {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let (file, position) = (file.unwrap(), u64::try_from(position).unwrap());
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, position).unwrap();
}

#[test]
fn an_untouched_layer_is_right_and_a_flipped_bit_is_found() {
    let mut random = Random::new(77);
    for seed in 40..44 {
        let layer = Layer::of(&random::tar(seed, 60));
        let dir = layer.dir();
        let scratch = tempfile::tempdir().unwrap();
        let found = verify(&dir, scratch.path(), &|_| {}).unwrap();
        assert_eq!(found.tar, layer.ingested);
        assert!(found.index_is_right);
        let index = fs::read(dir.index()).unwrap();
        for _ in 0..40 {
            let position = flip(&dir.index(), &mut random);
            let found = verify(&dir, scratch.path(), &|_| {}).unwrap();
            assert!(!found.index_is_right, "seed {seed}, byte {position}");
            assert_eq!(found.tar, layer.ingested);
            fs::write(dir.index(), &index).unwrap();
        }
        let tar = fs::read(dir.tar()).unwrap();
        for _ in 0..40 {
            let position = flip(&dir.tar(), &mut random);
            match verify(&dir, scratch.path(), &|_| {}) {
                Ok(found) => assert_ne!(
                    found.tar.diff_id, layer.ingested.diff_id,
                    "seed {seed}, byte {position}"
                ),
                Err(VerifyError::Ingest(error)) => assert!(
                    matches!(error, IngestError::Tar { .. } | IngestError::Entry { .. }),
                    "seed {seed}, byte {position}: {error}"
                ),
                Err(error) => panic!("seed {seed}, byte {position}: {error}"),
            }
            fs::write(dir.tar(), &tar).unwrap();
        }
    }
}

#[test]
fn a_missing_or_shorter_index_is_not_right_and_comes_again() {
    let layer = Layer::of(&random::tar(45, 60));
    let dir = layer.dir();
    let scratch = tempfile::tempdir().unwrap();
    let index = fs::read(dir.index()).unwrap();
    fs::write(dir.index(), &index[..index.len() - 1]).unwrap();
    assert!(
        !verify(&dir, scratch.path(), &|_| {})
            .unwrap()
            .index_is_right
    );
    assert!(layer::Index::open(&dir).unwrap().check_length().is_err());
    fs::remove_file(dir.index()).unwrap();
    assert!(
        !verify(&dir, scratch.path(), &|_| {})
            .unwrap()
            .index_is_right
    );
    fs::rename(scratch.path().join("index.erofs"), dir.index()).unwrap();
    assert_eq!(fs::read(dir.index()).unwrap(), index);
    layer::Index::open(&dir).unwrap().check_length().unwrap();
}

#[test]
fn the_lengths_of_every_layer_are_those_of_its_index() {
    for seed in 46..60 {
        let layer = Layer::of(&random::tar(seed, 30));
        let index = layer::Index::open(&layer.dir()).unwrap();
        index.check_length().unwrap();
    }
}
