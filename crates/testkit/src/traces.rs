//! Whether a text that must be kept nowhere is somewhere.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How files that are compressed begin.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Lists the files below `directory` that have `text` in their name, target or content, as they are or
/// decompressed; in order.
///
/// # Panics
///
/// When a file cannot be read.
pub fn holders(directory: &Path, text: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).expect("a directory that can be read");
    for entry in entries {
        let path = entry.expect("a directory that can be read").path();
        let status = fs::symlink_metadata(&path).expect("nobody works here");
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let mut holds = has(name, text);
        if status.is_dir() {
            found.extend(holders(&path, text));
        } else if status.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            holds |= has(target.as_os_str().as_encoded_bytes(), text);
        } else if status.is_file() {
            let content = fs::read(&path).expect("a file that can be read");
            holds |= has(&content, text) || has(&decompressed(&content), text);
        }
        if holds {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn has(content: &[u8], text: &[u8]) -> bool {
    content.windows(text.len()).any(|window| window == text)
}

/// Returns what a compressed file holds, as far as it can be read; nothing of others.
fn decompressed(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    if content.starts_with(GZIP) {
        // What is not whole can hold the text as well.
        drop(flate2::read::MultiGzDecoder::new(content).read_to_end(&mut plain));
    } else if content.starts_with(ZSTD) {
        let reader = zstd::stream::read::Decoder::new(content);
        drop(reader.map(|mut reader| reader.read_to_end(&mut plain)));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_found_in_names_links_and_compressed_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("in/deep")).expect("made");
        fs::write(path("in/deep/plain"), "a hush b").expect("written");
        fs::write(path("none"), "hus h").expect("written");
        fs::write(path("a-hush"), "").expect("written");
        std::os::unix::fs::symlink("to/hush", path("link")).expect("made");
        let zstd = zstd::encode_all(&b"hush"[..], 3).expect("encoded");
        fs::write(path("zstd"), zstd).expect("written");
        let level = flate2::Compression::default();
        let mut gzip = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(&b"hush"[..], level);
        encoder.read_to_end(&mut gzip).expect("encoded");
        fs::write(path("gzip"), gzip).expect("written");
        let names = ["a-hush", "gzip", "in/deep/plain", "link", "zstd"];
        assert_eq!(holders(directory.path(), b"hush"), names.map(path));
    }
}
