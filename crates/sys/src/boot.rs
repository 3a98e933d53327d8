//! What survives a crash: the boot's identity, and writing back to disk.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

/// Returns the identifier of the running boot: another text after every start of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim_end()
        .to_owned())
}

/// Waits until everything on the file system that holds `path` is on disk.
pub fn syncfs(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?.as_fd())?)
}

/// Asks the kernel to write `length` bytes of `file` from `offset` to disk, and does not wait.
///
/// This spreads the work of a later [`syncfs`] over the time of writing; it promises nothing.
#[expect(unsafe_code, reason = "rustix has no sync_file_range")]
pub fn start_writeback(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the call takes no pointers, and the descriptor is open for the borrow of `file`.
    let result = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_has_one_identifier() {
        let id = boot_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(boot_id().unwrap(), id);
    }

    #[test]
    fn writeback_and_sync_of_a_file_succeed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, [0; 8192]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        start_writeback(&file, 0, 8192).unwrap();
        start_writeback(&file, 4096, u64::MAX).unwrap_err();
        syncfs(directory.path()).unwrap();
    }
}
