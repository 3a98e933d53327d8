//! Finding the program to execute, as the container's user, in the container's root.

use std::ffi::CString;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use crate::StartError;

/// Returns the path to execute for `program`: itself when it has a slash, else the first
/// executable of that name in the directories of `search_path`. Relative directories of the
/// search path are passed over.
pub(crate) fn find(program: &str, search_path: &str) -> Result<CString, StartError> {
    if program.contains('/') {
        let path = c_string(program)?;
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(StartError::NoSuchProgram(program.to_owned())),
            Err(Errno::ISDIR) => Err(StartError::IsDirectory(program.to_owned())),
            Err(Errno::ACCESS) => Err(StartError::PermissionDenied(program.to_owned())),
            Err(errno) => Err(StartError::Exec {
                path: program.to_owned(),
                source: errno.into(),
            }),
        };
    }
    let candidates = search_path
        .split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| c_string(&format!("{}/{program}", directory.trim_end_matches('/'))));
    for candidate in candidates {
        let candidate = candidate?;
        if !program.is_empty() && check(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(StartError::NotInPath(program.to_owned()))
}

fn check(path: &CString) -> Result<(), Errno> {
    let status = stat(path)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// Returns `text` for the kernel, which ends strings with a NUL byte.
pub(crate) fn c_string(text: &str) -> Result<CString, StartError> {
    CString::new(text).map_err(|_| StartError::NulByte(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn programs_are_found_and_refused_in_dockers_words() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        let check = |program: &str, expected: Result<&str, (&str, u8)>| {
            let search = format!("relative::{root}/none:{root}/sub:{root}/bin/");
            match (find(program, &search), expected) {
                (Ok(path), Ok(expected)) => assert_eq!(path.to_str().unwrap(), expected),
                (Err(error), Err((words, code))) => {
                    assert_eq!(error.to_string(), words);
                    assert_eq!(error.exit_code(), code);
                }
                (result, expected) => panic!("{program}: {result:?}, expected {expected:?}"),
            }
        };
        std::fs::create_dir_all(format!("{root}/bin/dir")).unwrap();
        std::fs::create_dir_all(format!("{root}/sub/tool")).unwrap();
        std::fs::write(format!("{root}/bin/tool"), "").unwrap();
        std::fs::write(format!("{root}/bin/plain"), "").unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(format!("{root}/bin/tool"), executable).unwrap();

        let tool = format!("{root}/bin/tool");
        check("tool", Ok(&tool));
        check(&tool, Ok(&tool));
        let missing = r#"exec: "nope": executable file not found in $PATH"#;
        check("nope", Err((missing, 127)));
        let not_executable = r#"exec: "plain": executable file not found in $PATH"#;
        check("plain", Err((not_executable, 127)));
        let empty = r#"exec: "": executable file not found in $PATH"#;
        check("", Err((empty, 127)));
        let path = format!("{root}/nope");
        let words = format!(r#"exec: "{path}": stat {path}: no such file or directory"#);
        check(&path, Err((&words, 127)));
        let path = format!("{root}/bin/dir");
        let words = format!(r#"exec: "{path}": is a directory: permission denied"#);
        check(&path, Err((&words, 126)));
        let path = format!("{root}/bin/plain");
        let words = format!(r#"exec: "{path}": permission denied"#);
        check(&path, Err((&words, 126)));
    }
}
