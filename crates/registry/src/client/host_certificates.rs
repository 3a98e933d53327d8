//! Certificates by host, in directories as docker has them.
//!
//! ```text
//! <directory>/<host>[:<port>]/
//!   *.crt           root certificates
//!   <name>.cert     a client certificate
//!   <name>.key      its key
//! ```
//!
//! [docker's documentation](https://docs.docker.com/engine/security/certificates/)

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::settings_error::SettingsError;
use super::tls::{HostTls, KeyPair};

/// Returns what the first of `directories` that has a directory for one of `hosts` has in it.
pub(super) fn find(
    directories: &[PathBuf],
    hosts: &[String],
) -> Result<Option<HostTls>, SettingsError> {
    for directory in directories {
        for host in hosts {
            // A host is part of a URL: it has no slash in it, but may be nothing but dots.
            if host.starts_with('.') {
                continue;
            }
            if let Some(found) = in_directory(&directory.join(host))? {
                return Ok(Some(found).filter(HostTls::differs));
            }
        }
    }
    Ok(None)
}

/// Returns what is in a directory; `None` where there is none.
fn in_directory(directory: &Path) -> Result<Option<HostTls>, SettingsError> {
    let unreadable = |source| SettingsError::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    let mut found = HostTls::default();
    for path in &paths {
        let other = |end: &str| {
            let other = path.with_extension(end);
            match paths.contains(&other) {
                true => Ok(other),
                false => Err(SettingsError::HalfPair {
                    path: path.clone(),
                    missing: other,
                }),
            }
        };
        match path.extension().and_then(|end| end.to_str()) {
            Some("crt") => found.ca.push(path.clone()),
            Some("cert") => found.keypairs.push(KeyPair {
                key: other("key")?,
                cert: path.clone(),
            }),
            Some("key") => drop(other("cert")?),
            _ => {}
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes the files and returns the two directories.
    fn place(files: &[&str]) -> (tempfile::TempDir, [PathBuf; 2]) {
        let place = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = place.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        let directories = ["first", "second"].map(|name| place.path().join(name));
        (place, directories)
    }

    #[test]
    fn the_first_directory_of_a_host_counts() {
        let (place, directories) = place(&[
            "first/r.io:443/b.crt",
            "first/r.io:443/a.crt",
            "first/r.io:443/me.cert",
            "first/r.io:443/me.key",
            "first/r.io:443/README",
            "second/r.io/c.crt",
            "second/q.io/d.crt",
            "first/empty/README",
        ]);
        let at = |name: &str| place.path().join(name);
        let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let find = |names: &[&str]| {
            let hosts: Vec<String> = hosts(names);
            find(&directories, &hosts).expect("in order")
        };
        let expected = HostTls {
            insecure: false,
            ca: vec![at("first/r.io:443/a.crt"), at("first/r.io:443/b.crt")],
            keypairs: vec![KeyPair {
                key: at("first/r.io:443/me.key"),
                cert: at("first/r.io:443/me.cert"),
            }],
        };
        assert_eq!(find(&["r.io", "r.io:443"]), Some(expected));
        let second = find(&["q.io", "q.io:443"]).expect("there");
        assert_eq!(second.ca, [at("second/q.io/d.crt")]);
        assert_eq!(find(&["r.io:5000"]), None);
        assert_eq!(find(&["empty"]), None);
        assert_eq!(find(&["..", "."]), None);
    }

    #[test]
    fn half_a_pair_is_told() {
        for (there, missing) in [("me.cert", "me.key"), ("me.key", "me.cert")] {
            let (_place, directories) = place(&[&format!("first/r.io/{there}")]);
            let error = find(&directories, &["r.io".to_owned()]).expect_err("half");
            let text = error.to_string();
            let both = [there, missing].map(|name| text.contains(&format!("/r.io/{name}`")));
            assert_eq!(both, [true, true], "{text}");
        }
    }

    #[test]
    fn what_is_no_directory_is_told() {
        let (_place, directories) = place(&["second/r.io"]);
        let error = find(&directories, &["r.io".to_owned()]).expect_err("a file");
        assert!(error.to_string().ends_with("/second/r.io`"), "{error}");
    }
}
