//! A file that is there when it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::StoreError;
use crate::error::at;
use crate::scratch::unique_name;

/// A file that gets its name when it is complete and on the disk. Until then it has none at all,
/// so nothing is left of it when the process is killed; where the file system cannot do that, it
/// has a name of its own beside, which goes when it is dropped.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: File,
    partial: Option<PathBuf>,
}

impl NewFile {
    /// Begins the file `path`, which must not be there, or be an empty file.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        check_free(path)?;
        if path.file_name().is_none() {
            return Err(at("create", path)(ErrorKind::InvalidInput.into()));
        }
        let directory = directory_of(path);
        let (file, partial) = match unnamed(&directory, 0o666).map_err(at("create", path))? {
            Some(file) => (file, None),
            None => {
                let (file, partial) = beside(&directory)?;
                (file, Some(partial))
            }
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            partial,
        })
    }

    /// Opens a file in `directory` that never gets a name, and goes with its last user.
    pub(crate) fn unnamed(directory: &Path) -> Result<File, StoreError> {
        if let Some(file) = unnamed(directory, 0o600).map_err(at("create a file in", directory))? {
            return Ok(file);
        }
        let (file, partial) = beside(directory)?;
        fs::remove_file(&partial).map_err(at("remove", &partial))?;
        Ok(file)
    }

    /// Returns the open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the name that the file will have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, when all of it is on the disk. What got the name meanwhile keeps
    /// it, unless it is an empty file.
    pub(crate) fn commit(mut self) -> Result<(), StoreError> {
        let path = &self.path;
        self.file.sync_all().map_err(at("sync", path))?;
        check_free(path)?;
        // Only an empty file can be there now.
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(at("replace", path)(error));
            }
            _ => {}
        }
        let named = match &self.partial {
            None => {
                let number = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, number.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW)
            }
            Some(partial) => rename(partial, path),
        };
        match named {
            Err(Errno::EXIST) => return Err(StoreError::FileExists { path: path.clone() }),
            named => named.map_err(|error| at("create", path)(error.into()))?,
        }
        self.partial = None;
        let directory = directory_of(&self.path);
        File::open(&directory)
            .and_then(|directory| directory.sync_all())
            .map_err(at("sync", &directory))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // There is no better moment to tell that it could not be removed.
            drop(fs::remove_file(partial));
        }
    }
}

fn check_free(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && found.len() == 0 => Ok(()),
        Ok(_) => Err(StoreError::FileExists {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at("create", path)(error)),
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes a file in `directory` with a name that nobody looks for.
fn beside(directory: &Path) -> Result<(File, PathBuf), StoreError> {
    let partial = directory.join(format!(".{}.partial", unique_name()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true);
    let file = file.open(&partial).map_err(at("create", &partial))?;
    Ok((file, partial))
}

/// Opens a new file in `directory` that has no name; `None` where that is not possible.
fn unnamed(directory: &Path, mode: u32) -> io::Result<Option<File>> {
    // The name is given through `/proc` later.
    if !Path::new("/proc/self/fd").exists() {
        return Ok(None);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => Ok(Some(file.into())),
        // Kernels and file systems without unnamed files say one of these.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system cannot tell.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::rename(from, to),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Begins a file with or without a name of its own.
    fn begin(path: &Path, is_named: bool) -> NewFile {
        let mut new = NewFile::create(path).expect("begun");
        if is_named {
            let partial = path.with_file_name("partial");
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create_new(true);
            new.file = file.open(&partial).expect("created");
            new.partial = Some(partial);
        }
        new.file().write_all(b"whole").expect("written");
        new
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("lists");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("listed").file_name();
        entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_file_is_there_only_when_it_is_complete() {
        for is_named in [false, true] {
            let place = tempfile::tempdir().expect("a directory");
            let path = place.path().join("new");
            drop(begin(&path, is_named));
            assert_eq!(names(place.path()), Vec::<String>::new());
            begin(&path, is_named).commit().expect("committed");
            assert_eq!(names(place.path()), ["new"]);
            assert_eq!(fs::read(&path).expect("read"), b"whole");
        }
    }

    #[test]
    fn what_is_there_stays_unless_it_is_empty() {
        for is_named in [false, true] {
            let place = tempfile::tempdir().expect("a directory");
            let path = place.path().join("new");
            fs::write(&path, "").expect("written");
            begin(&path, is_named).commit().expect("committed");
            NewFile::create(&path).expect_err("there");
            let late = place.path().join("late");
            let new = begin(&late, is_named);
            fs::write(&late, "precious").expect("written");
            let error = new.commit().expect_err("there");
            assert!(matches!(error, StoreError::FileExists { .. }), "{error}");
            assert_eq!(fs::read(&late).expect("read"), b"precious");
            std::os::unix::fs::symlink("nowhere", place.path().join("link")).expect("linked");
            NewFile::create(&place.path().join("link")).expect_err("there");
        }
    }
}
