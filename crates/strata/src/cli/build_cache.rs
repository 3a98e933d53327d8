//! `--cache-from` and `--cache-to` of a build.

use std::path::PathBuf;

use build::InlineCache;
use layer::Compression;
use oci::{Digest, Reference};
use store::{Pick, Reuse};
use strata::ops::build_cache::{CacheExtent, CacheForm, CacheLocation, CachePlace, CacheTarget};
use strata::ops::push::Wanted;

use super::build::failed;
use super::error::CommandError;
use super::flags::Arguments;
use super::push::compression;

/// Caches that need what this program does not have: an account somewhere.
const ELSEWHERE: [&str; 3] = ["gha", "s3", "azblob"];
/// The name of a cache in a directory when none is given.
const DEFAULT_TAG: &str = "latest";

/// What the command line says of caches.
#[derive(Debug)]
pub(super) struct Caches {
    /// What is imported.
    pub(super) sources: Vec<CacheLocation>,
    /// Where the build's own goes.
    pub(super) targets: Vec<CacheTarget>,
    /// Whether the image carries it.
    pub(super) inline: InlineCache,
}

impl Caches {
    /// Reads the flags.
    pub(super) fn read(arguments: &Arguments) -> Result<Self, CommandError> {
        let mut caches = Self {
            sources: Vec::new(),
            targets: Vec::new(),
            inline: InlineCache::Leave,
        };
        for text in arguments.all("cache-from").filter(|text| !text.is_empty()) {
            caches.sources.push(source(Entry::parse(text)?)?);
        }
        for text in arguments.all("cache-to").filter(|text| !text.is_empty()) {
            let mut entry = Entry::parse(text)?;
            match entry.kind.as_str() {
                "inline" => {
                    // BuildKit takes it, and means the smallest all the same.
                    entry.take("mode");
                    entry.end("--cache-to")?;
                    caches.inline = InlineCache::Add;
                }
                _ => caches.targets.push(target(entry)?),
            }
        }
        Ok(caches)
    }
}

/// One value: a type and its attributes.
struct Entry {
    kind: String,
    attributes: Vec<(String, String)>,
}

impl Entry {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let fields = dockerfile::fields(text)
            .ok_or_else(|| failed(&format!("invalid value {text:?}: its quotes do not match")))?;
        if let [name] = fields.as_slice()
            && !name.contains('=')
        {
            return Ok(Self {
                kind: "registry".to_owned(),
                attributes: vec![("ref".to_owned(), name.clone())],
            });
        }
        let mut entry = Self {
            kind: String::new(),
            attributes: Vec::new(),
        };
        for field in fields {
            let Some((key, value)) = field.split_once('=') else {
                return Err(failed(&format!("invalid value {field}")));
            };
            match key.to_ascii_lowercase().as_str() {
                "type" => value.clone_into(&mut entry.kind),
                key => {
                    entry.take(key);
                    entry.attributes.push((key.to_owned(), value.to_owned()));
                }
            }
        }
        match entry.kind.is_empty() {
            true => Err(failed(&format!("type required form> {text:?}"))),
            false => Ok(entry),
        }
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let place = self.attributes.iter().position(|(known, _)| known == key)?;
        Some(self.attributes.remove(place).1)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.take(key).filter(|value| !value.is_empty())
    }

    fn truth(&mut self, key: &str) -> Result<Option<bool>, CommandError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(Some(true)),
            "0" | "f" | "false" => Ok(Some(false)),
            _ => Err(failed(&format!(
                "failed to parse {key}: {value:?} is neither true nor false"
            ))),
        }
    }

    fn reference(&mut self, what: &str) -> Result<(String, Reference), CommandError> {
        let Some(name) = self.text("ref") else {
            return Err(failed(&format!("registry cache {what} requires ref")));
        };
        match Reference::parse(&name) {
            Ok(reference) => Ok((name, reference.or_latest())),
            Err(error) => {
                let message = format!("failed to build: invalid cache reference {name:?}: {error}");
                Err(CommandError::reference_in(message, &name))
            }
        }
    }

    /// Fails when there are attributes that nobody took.
    fn end(&self, flag: &str) -> Result<(), CommandError> {
        let Some((key, _)) = self.attributes.first() else {
            return Ok(());
        };
        let kind = &self.kind;
        Err(failed(&format!(
            "{flag} type={kind} has no attribute {key:?}"
        )))
    }

    fn unknown(&self, flag: &str, known: &str) -> CommandError {
        let kind = &self.kind;
        match ELSEWHERE.contains(&kind.as_str()) {
            true => failed(&format!(
                "cache type {kind:?} is not supported: it needs an account at a service that only BuildKit's clients talk to; use {known}"
            )),
            false => failed(&format!(
                "unknown cache type {kind:?} for {flag}: use {known}"
            )),
        }
    }
}

fn source(mut entry: Entry) -> Result<CacheLocation, CommandError> {
    let flag = "--cache-from";
    let location = match entry.kind.as_str() {
        "registry" => {
            let (name, reference) = entry.reference("importer")?;
            CacheLocation::Registry {
                name,
                reference,
                plain_http: entry.truth("registry.insecure")?.unwrap_or(false),
            }
        }
        "local" => {
            let Some(path) = entry.text("src") else {
                return Err(failed("local cache importer requires src"));
            };
            let tag = entry.text("tag").unwrap_or_else(|| DEFAULT_TAG.to_owned());
            let pick = match entry.text("digest") {
                Some(digest) => {
                    let parsed: Result<Digest, _> = digest.parse();
                    let invalid =
                        |_| failed(&format!("invalid digest {digest:?} of a local cache"));
                    Pick::Digest(parsed.map_err(invalid)?)
                }
                None => Pick::Name(tag),
            };
            CacheLocation::Directory {
                path: PathBuf::from(path),
                pick,
            }
        }
        _ => return Err(entry.unknown(flag, "registry or local")),
    };
    entry.end(flag)?;
    Ok(location)
}

fn target(mut entry: Entry) -> Result<CacheTarget, CommandError> {
    let flag = "--cache-to";
    let place = match entry.kind.as_str() {
        "registry" => {
            let (name, reference) = entry.reference("exporter")?;
            if reference.digest().is_some() {
                return Err(failed(&format!(
                    "{name:?} has a digest: a cache is exported under a tag"
                )));
            }
            CachePlace::Registry {
                reference,
                plain_http: entry.truth("registry.insecure")?.unwrap_or(false),
            }
        }
        "local" => {
            let Some(path) = entry.text("dest") else {
                return Err(failed("local cache exporter requires dest"));
            };
            CachePlace::Directory {
                path: PathBuf::from(path),
                tag: entry.text("tag").unwrap_or_else(|| DEFAULT_TAG.to_owned()),
            }
        }
        _ => return Err(entry.unknown(flag, "registry, local or inline")),
    };
    let extent = match entry.text("mode").as_deref() {
        None | Some("min") => CacheExtent::Result,
        Some("max") => CacheExtent::All,
        Some(other) => {
            return Err(failed(&format!(
                "invalid cache mode {other:?}: expected min or max"
            )));
        }
    };
    let (compression, reuse) = packing(&mut entry)?;
    let target = CacheTarget {
        place,
        extent,
        form: form(&mut entry)?,
        compression,
        reuse,
        ignore_error: entry.truth("ignore-error")?.unwrap_or(false),
    };
    entry.end(flag)?;
    Ok(target)
}

fn form(entry: &mut Entry) -> Result<CacheForm, CommandError> {
    let is_oci = entry.truth("oci-mediatypes")?.unwrap_or(true);
    let is_manifest = entry.truth("image-manifest")?.unwrap_or(is_oci);
    match (is_manifest, is_oci) {
        (true, true) => Ok(CacheForm::Manifest),
        (false, true) => Ok(CacheForm::Index),
        (false, false) => Ok(CacheForm::DockerIndex),
        (true, false) => Err(failed(
            "invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache format",
        )),
    }
}

/// Reads how layers are compressed. As in BuildKit, what is compressed already goes as it is
/// unless that is forced.
fn packing(entry: &mut Entry) -> Result<(Compression, Reuse), CommandError> {
    let format = entry.text("compression");
    let level = entry.text("compression-level");
    let is_forced = entry.truth("force-compression")?.unwrap_or(false);
    let wanted = match (format.as_deref(), level) {
        (Some("uncompressed"), None) => Wanted::Format(Compression::None),
        (format, level) => {
            let format = format.unwrap_or("gzip");
            let text = level.map_or(format.to_owned(), |level| format!("{format}:{level}"));
            compression(&text).ok_or_else(|| {
                failed(&format!(
                    "unsupported compression {text:?} of a cache: use uncompressed, gzip (levels 1 to 12) or zstd (levels 1 to 19)"
                ))
            })?
        }
    };
    let reuse = match is_forced {
        true => wanted.reuse(),
        false => Reuse::All,
    };
    Ok((wanted.compression(), reuse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let entry = Entry::parse(text);
        let result = entry.and_then(|entry| target(entry).map(|_| ()));
        result
            .err()
            .map(|error| format!("{error:?}").replace("\\\"", "\""))
            .unwrap_or_default()
    }

    #[test]
    fn what_a_cache_cannot_have_is_an_error() {
        for (text, expected) in [
            ("a:b", ""),
            (
                "type=registry,ref=a:b,mode=max,compression=zstd,compression-level=3",
                "",
            ),
            ("foo=bar", "type required form> \"foo=bar\""),
            ("a,b", "invalid value a"),
            ("type=registry", "registry cache exporter requires ref"),
            ("type=local", "local cache exporter requires dest"),
            ("type=gha", "\"gha\" is not supported"),
            ("type=x", "unknown cache type \"x\""),
            ("type=registry,ref=a,mode=mid", "invalid cache mode \"mid\""),
            ("type=registry,ref=a,blob=1", "has no attribute \"blob\""),
            ("type=registry,ref=A", "invalid cache reference \"A\""),
            (
                "type=registry,ref=a,ignore-error=maybe",
                "failed to parse ignore-error",
            ),
            (
                "type=registry,ref=a,compression=lz4",
                "unsupported compression \"lz4\"",
            ),
            ("type=registry,ref=a,oci-mediatypes=false", ""),
            (
                "type=registry,ref=a,oci-mediatypes=false,image-manifest=true",
                "OCI mediatypes are required",
            ),
        ] {
            let found = message(text);
            assert!(found.contains(expected), "{text}: {found:?}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{text}: {found:?}");
        }
    }
}
