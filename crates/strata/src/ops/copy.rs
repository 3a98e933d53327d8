//! Images from one place outside the store to another.

use std::path::PathBuf;

use oci::{Descriptor, Platform, Reference, ReferenceError};
use registry::{Client, ClientError};
use store::{
    Archive, ArchiveError, CopyError, CopyOptions, Event, Extent, LayoutTarget, Source, StoreError,
    mirror,
};

/// A place that an image can be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a registry: `NAME` or `docker://NAME`.
    Registry(Reference),
    /// In an OCI layout: `oci:DIRECTORY[:NAME]`.
    Layout(PathBuf, Option<String>),
    /// In a tar that `save` wrote: `docker-archive:FILE[:NAME]` or `oci-archive:FILE[:NAME]`.
    Archive(PathBuf, Option<String>),
}

impl Place {
    /// Reads a place. What has no known beginning is a name at a registry.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let in_file = |rest: &str| match rest.split_once(':') {
            Some((path, name)) => (path.into(), Some(name.to_owned())),
            None => (rest.into(), None),
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, name) = in_file(rest);
            return Ok(Self::Layout(path, name));
        }
        let archive = text
            .strip_prefix("docker-archive:")
            .or_else(|| text.strip_prefix("oci-archive:"));
        if let Some(rest) = archive {
            let (path, name) = in_file(rest);
            return Ok(Self::Archive(path, name));
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        Ok(Self::Registry(Reference::parse(name)?.or_latest()))
    }
}

/// Why an image was not copied. What had a name at the target has it still; blobs that arrived
/// stay there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A target that has a digest already.
    #[error("copy to a tag: the digest of an image follows from its content")]
    DigestTarget,
    /// A target that cannot be written.
    #[error("cannot write an archive: copy to `oci:DIRECTORY`, or pull the image and save it")]
    ArchiveTarget,
    /// The registry cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The archive or layout cannot be read.
    #[error("cannot read `{}`", path.display())]
    Archive {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// The copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The layout cannot be written.
    #[error(transparent)]
    Layout(#[from] StoreError),
}

/// Copies an image, or an index with all its images, as it is. Returns what `to` now leads to.
/// The store plays no part.
pub fn copy(
    client: &Client,
    from: &Place,
    to: &Place,
    extent: &Extent,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Descriptor, PlaceError> {
    let options = CopyOptions {
        platform: Platform::host(),
        parallel: super::parallel_layers(),
        events,
    };
    let source = open(client, from)?;
    let copied = match to {
        Place::Registry(name) if name.digest().is_some() => return Err(PlaceError::DigestTarget),
        Place::Archive(..) => return Err(PlaceError::ArchiveTarget),
        Place::Registry(name) => {
            let remote = client.repository(name)?;
            let remote = match from {
                Place::Registry(from) => remote.mounting_from(from),
                Place::Layout(..) | Place::Archive(..) => remote,
            };
            mirror(&*source, &remote, extent, &options)?.named
        }
        Place::Layout(path, name) => {
            let layout = LayoutTarget::open(path)?;
            let copied = mirror(&*source, &layout, extent, &options)?.named;
            layout.name(&copied, name.as_deref())?;
            copied
        }
    };
    Ok(copied)
}

fn open(client: &Client, place: &Place) -> Result<Box<dyn Source>, PlaceError> {
    let (path, name) = match place {
        Place::Registry(name) => return Ok(Box::new(client.repository(name)?)),
        Place::Layout(path, name) | Place::Archive(path, name) => (path, name),
    };
    let image = Archive::open_plain(path).and_then(|archive| archive.image(name.as_deref()));
    match image {
        Ok(image) => Ok(Box::new(image.source)),
        Err(source) => Err(PlaceError::Archive {
            path: path.clone(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_their_beginning() {
        let name = || Some("v1".to_owned());
        let reference = |text| Place::Registry(Reference::parse(text).unwrap().or_latest());
        let cases = [
            ("oci:dir", Place::Layout("dir".into(), None)),
            ("oci:/a/b:v1", Place::Layout("/a/b".into(), name())),
            ("docker-archive:f:v1", Place::Archive("f".into(), name())),
            ("oci-archive:f", Place::Archive("f".into(), None)),
            ("docker://q.io/a:1", reference("q.io/a:1")),
            ("localhost:5000/a", reference("localhost:5000/a")),
            ("ocia:1", reference("ocia:1")),
        ];
        for (text, place) in cases {
            assert_eq!(Place::parse(text).unwrap(), place, "{text}");
        }
        assert!(Place::parse("docker://A B").is_err());
    }
}
