//! Files that the settings consist of or name.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::settings_error::SettingsError;

/// The longest file that is read.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Reads the file of settings at `path`.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| ErrorKind::InvalidData.into())
}

/// Reads a file of certificates or keys at `path`.
pub(super) fn read_named(path: &Path) -> Result<Vec<u8>, SettingsError> {
    read(path).map_err(|source| SettingsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("a pipe, which would be waited for"));
    }
    let file = File::open(path)?;
    let length = file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_FILE_SIZE {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
