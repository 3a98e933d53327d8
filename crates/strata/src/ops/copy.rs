//! Images from one place outside the store to another.

use std::path::{Path, PathBuf};

use oci::{Digest, ImageId, Platform, Reference};
use registry::{Client, ClientError};
use store::{
    Archive, ArchiveError, CopyError, CopyOptions, DockerArchiveTarget, Event, Extent,
    LayoutArchiveTarget, LayoutTarget, Side, Source, StoreError, mirror,
};

use super::layers::decompress;
use super::place::{Form, Place, PlaceError, Target};

/// What is copied, and how.
pub struct PlaceCopy<'a> {
    /// Where the image is.
    pub from: &'a Place,
    /// Where it goes.
    pub to: &'a Place,
    /// Which image of an index; without it all of them, except into docker's archives, which take
    /// the one for this machine.
    pub platform: Option<Platform>,
    /// The directory for what compressed archives decompress to.
    pub spool: PathBuf,
    /// Is told what happens, from several threads.
    pub events: &'a (dyn Fn(Event) + Sync),
}

impl std::fmt::Debug for PlaceCopy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlaceCopy")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// What a copy brought.
#[derive(Debug, Clone)]
pub struct PlaceCopied {
    /// What the target now has.
    pub brought: Brought,
    /// What the image is for, when that is not the platform that was asked for.
    pub other_platform: Option<Platform>,
}

/// What a target now has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    /// A manifest or index, as it was.
    Document {
        /// Its digest.
        digest: Digest,
        /// Its length.
        size: u64,
    },
    /// An image whose manifest the target does not keep.
    Image(ImageId),
}

/// Why an image was not copied. What had a name at the target has it still; blobs that arrived
/// stay in registries and in layouts that were there before.
#[derive(Debug, thiserror::Error)]
pub enum PlaceCopyError {
    /// The target is none.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The image cannot be had.
    #[error("cannot copy from `{place}`")]
    Source {
        /// Where it is.
        place: String,
        /// Why.
        #[source]
        source: Box<SideError>,
    },
    /// The image cannot be put there.
    #[error("cannot copy to `{place}`")]
    Target {
        /// Where it goes.
        place: String,
        /// Why.
        #[source]
        source: Box<SideError>,
    },
}

/// What is wrong with one side of a copy.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// The registry cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file or directory cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The archive or layout is not in order.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The archive or layout cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Copies an image, or an index with all its images, as it is. The store plays no part.
pub fn copy(client: &Client, copy: &PlaceCopy<'_>) -> Result<PlaceCopied, PlaceCopyError> {
    let at_target = |error: SideError| PlaceCopyError::Target {
        place: copy.to.to_string(),
        source: error.into(),
    };
    let target = copy.to.target()?;
    let source = open(client, copy).map_err(|source| PlaceCopyError::Source {
        place: copy.from.to_string(),
        source: source.into(),
    })?;
    let copied = match target {
        Target::Registry(name) => to_registry(client, copy, &*source, name),
        Target::Layout(path, name) => to_layout(copy, &*source, path, name),
        Target::LayoutArchive(path, name) => to_layout_archive(copy, &*source, path, name),
        Target::DockerArchive(path, name) => to_docker_archive(copy, &*source, path, name),
    };
    copied.map_err(|error| match error {
        SideError::Copy(error) if error.side() == Side::Source => PlaceCopyError::Source {
            place: copy.from.to_string(),
            source: Box::new(error.into()),
        },
        error => at_target(error),
    })
}

fn open(client: &Client, copy: &PlaceCopy<'_>) -> Result<Box<dyn Source>, SideError> {
    let (form, path, pick) = match copy.from {
        Place::Registry(name) => return Ok(Box::new(client.repository(name)?)),
        Place::Local { form, path, pick } => (form, path, pick),
    };
    let opened = Archive::open_outside(path, &copy.spool, &decompress);
    let opened = opened.map(|archive| match form {
        Form::Layout | Form::LayoutArchive => archive.as_layout(),
        Form::DockerArchive => archive,
    });
    match opened.and_then(|archive| archive.image(pick)) {
        Ok(image) => Ok(Box::new(image.source)),
        // A directory is not an archive, whatever reads it.
        Err(ArchiveError::Read(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

fn to_registry(
    client: &Client,
    copy: &PlaceCopy<'_>,
    source: &dyn Source,
    name: &Reference,
) -> Result<PlaceCopied, SideError> {
    let remote = client.repository(name)?;
    let remote = match copy.from {
        Place::Registry(from) => remote.mounting_from(from),
        Place::Local { .. } => remote,
    };
    let mirrored = mirror(source, &remote, &copy.extent(), &copy.options())?;
    Ok(mirrored.into())
}

fn to_layout(
    copy: &PlaceCopy<'_>,
    source: &dyn Source,
    path: &Path,
    name: Option<&str>,
) -> Result<PlaceCopied, SideError> {
    let layout = LayoutTarget::open(path)?;
    let mirrored = mirror(source, &layout, &copy.extent(), &copy.options());
    let named = mirrored.map_err(SideError::from).and_then(|mirrored| {
        layout.name(&mirrored.named, name)?;
        Ok(mirrored.into())
    });
    if named.is_err() {
        layout.abandon();
    }
    named
}

fn to_layout_archive(
    copy: &PlaceCopy<'_>,
    source: &dyn Source,
    path: &Path,
    name: Option<&str>,
) -> Result<PlaceCopied, SideError> {
    let archive = LayoutArchiveTarget::create(path)?;
    let mirrored = mirror(source, &archive, &copy.extent(), &copy.options())?;
    archive.finish(&mirrored.named, name)?;
    Ok(mirrored.into())
}

fn to_docker_archive(
    copy: &PlaceCopy<'_>,
    source: &dyn Source,
    path: &Path,
    name: Option<Reference>,
) -> Result<PlaceCopied, SideError> {
    let name = name.or_else(|| match copy.from {
        // Under a digest, a tag is only what somebody calls it.
        Place::Registry(from) if from.digest().is_none() => Some(from.clone()),
        Place::Registry(_) | Place::Local { .. } => None,
    });
    let archive = DockerArchiveTarget::create(path, name.as_slice(), &decompress)?;
    let options = CopyOptions {
        // They are written one after the other.
        parallel: 1,
        ..copy.options()
    };
    let copied = store::copy(source, &archive, &options)?;
    let found = archive.finish()?;
    let wanted = copy.platform.as_ref();
    Ok(PlaceCopied {
        brought: Brought::Image(copied.image),
        other_platform: found.filter(|found| wanted.is_some_and(|wanted| !found.serves(wanted))),
    })
}

impl PlaceCopy<'_> {
    fn extent(&self) -> Extent {
        self.platform
            .clone()
            .map_or(Extent::Whole, Extent::Platform)
    }

    fn options(&self) -> CopyOptions<'_> {
        CopyOptions {
            platform: self.platform.clone().unwrap_or_else(Platform::host),
            parallel: super::parallel_layers(),
            events: self.events,
        }
    }
}

impl From<store::Mirrored> for PlaceCopied {
    fn from(mirrored: store::Mirrored) -> Self {
        Self {
            brought: Brought::Document {
                digest: mirrored.named.digest,
                size: mirrored.named.size,
            },
            other_platform: mirrored.other_platform,
        }
    }
}
