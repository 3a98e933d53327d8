//! Archives of `docker save`, and OCI layouts in a tar.

use std::fs;
use std::io::Read;
use std::path::Path;

use layer::Limits;
use oci::{Descriptor, DiffId, Digest, MediaType, Platform};
use store::{Archive, BlobOutcome, CopyOptions, ExchangeError, OpenBlob, Progress, Target, copy};
use tar::{EntryType, Header};

use crate::parts::{parts, replace};
use crate::tar_ingest::{Scratch, drain};

/// Reads an archive and copies all its images. Data that begins with `=` is the archive's bytes.
/// All other is a list of files, separated by the byte 0x1e. The first line of each is its name,
/// and `blob` for one that is named by its digest; `-> target` behind a name makes a link. In all
/// of them `@0` to `@9` stand for the digests of the files before, `#0` to `#9` for their sizes.
/// What is wrong with an archive is told without a control character.
pub fn docker_archive(data: &[u8]) {
    let bytes = match data.strip_prefix(b"=") {
        Some(bytes) => bytes.to_vec(),
        None => archive_of(data),
    };
    let scratch = Scratch::in_memory();
    let path = scratch.path().join("archive");
    fs::write(&path, bytes).expect("written");
    let decompress = |reader| {
        let (_, plain) = layer::decompress(reader)?;
        Ok(Box::new(plain.take(1 << 24)) as Box<dyn Read + Send>)
    };
    let archive = Archive::open_outside(&path, scratch.path(), &decompress);
    for archive in [archive] {
        let Ok(archive) = archive else { return };
        for reading in [archive.images(), archive.as_layout().images()] {
            let images = match reading {
                Ok(images) => images,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    continue;
                }
            };
            for image in images.iter().take(4) {
                let options = CopyOptions {
                    platform: "linux/amd64".parse::<Platform>().expect("a platform"),
                    parallel: 1,
                    events: &|_| {},
                };
                let taken = copy(&image.source, &Taking(scratch.path()), &options);
                drop(taken);
            }
        }
    }
}

/// Makes the archive that `data` describes.
fn archive_of(data: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut known: Vec<(String, usize)> = Vec::new();
    for part in parts(data).take(40) {
        let line = part.iter().position(|byte| *byte == b'\n');
        let (name, text) = part.split_at(line.unwrap_or(part.len()));
        let mut content = text.strip_prefix(b"\n").unwrap_or(text).to_vec();
        for (number, (digest, size)) in known.iter().enumerate().take(10) {
            content = replace(&content, format!("@{number}").as_bytes(), digest.as_bytes());
            content = replace(
                &content,
                format!("#{number}").as_bytes(),
                size.to_string().as_bytes(),
            );
        }
        let digest = Digest::of(&content);
        let name = String::from_utf8_lossy(name).into_owned();
        let (name, target) = match name.split_once(" -> ") {
            Some((name, target)) => (name.to_owned(), Some(target.to_owned())),
            None if name == "blob" => (format!("blobs/sha256/{}", digest.hex()), None),
            None => (name, None),
        };
        known.push((digest.hex(), content.len()));
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        // A name that cannot be in a header makes no archive.
        let added = match target {
            Some(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, &name, target)
            }
            None => {
                header.set_size(u64::try_from(content.len()).expect("short"));
                builder.append_data(&mut header, &name, content.as_slice())
            }
        };
        drop(added);
    }
    builder.into_inner().expect("in memory")
}

/// Takes everything, and looks into layers.
struct Taking<'a>(&'a Path);

impl Target for Taking<'_> {
    fn has_blob(&self, _: &Descriptor, _: Option<&DiffId>) -> Result<bool, ExchangeError> {
        Ok(false)
    }

    fn put_blob(
        &self,
        _: &Descriptor,
        diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        _: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        let mut reader = open(0)?;
        if diff_id.is_none() {
            drain(&mut reader).map_err(ExchangeError::permanent)?;
            return Ok(BlobOutcome::Stored);
        }
        let (_, mut tar) = layer::decompress(reader).map_err(ExchangeError::permanent)?;
        let limits = Limits {
            max_tar_size: 1 << 24,
            ..Limits::default()
        };
        layer::ingest(&mut tar, self.0, &limits).map_err(ExchangeError::permanent)?;
        Ok(BlobOutcome::Stored)
    }

    fn put_manifest(&self, _: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        Ok(Digest::of(bytes))
    }
}
