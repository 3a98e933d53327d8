//! What people write for an image: a name, a digest, an id, or the start of one.

use oci::{Digest, ImageId, PastName, PastNameError, Reference, ReferenceError};
use rusqlite::Connection;

use crate::{ImageRecord, PastImage, Store, StoreError, db, image, journal, tag};

/// Why a text does not lead to one image. `Display` is docker's text.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such image. The text is as docker completes it: `x:latest`.
    #[error("No such image: {name}")]
    NotFound {
        /// The completed name.
        name: String,
    },
    /// The text starts the ids of several images.
    #[error("image id prefix `{prefix}` is ambiguous: {count} images begin with it")]
    Ambiguous {
        /// The text.
        prefix: String,
        /// How many images.
        count: usize,
    },
    /// The text has `@{` and is not what a tag was.
    #[error(transparent)]
    Past(#[from] PastNameError),
    /// The tag has not changed that often.
    #[error("the history of {name} has only {count} entries")]
    NoSuchEntry {
        /// The tag.
        name: String,
        /// How often it has.
        count: i64,
    },
    /// What the tag was is not here.
    #[error("{0}")]
    Gone(Box<PastImage>),
    /// The text is neither a name nor an id.
    #[error(transparent)]
    Invalid(#[from] ReferenceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was found, and through what.
#[derive(Debug)]
pub(crate) enum Found {
    Name(Reference, ImageId),
    Id(ImageId),
}

impl Found {
    pub(crate) fn id(&self) -> &ImageId {
        match self {
            Self::Name(_, id) | Self::Id(id) => id,
        }
    }
}

impl Store {
    /// Finds the image that `text` means: `name[:tag]`, `name@digest`, `name[:tag]@{changes}`
    /// (what the tag was), an id with or without `sha256:`, or a unique start of one. Names come
    /// before ids.
    pub fn resolve(&self, text: &str) -> Result<ImageRecord, ResolveError> {
        self.read(|connection| {
            let record = match find(connection, text) {
                Ok(found) => image::find(connection, found.id())?,
                Err(error) => return Ok(Err(error)),
            };
            Ok(record.ok_or_else(|| ResolveError::NotFound {
                name: text.to_owned(),
            }))
        })?
    }
}

pub(crate) fn find(connection: &Connection, text: &str) -> Result<Found, ResolveError> {
    let not_found = |name: String| ResolveError::NotFound { name };
    let full = Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text));
    if let Some(digest) = full {
        let id = ImageId(digest);
        if image::exists(connection, &id)? {
            return Ok(Found::Id(id));
        }
        return Err(not_found(id.to_string()));
    }
    if let Some(past) = PastName::parse(text)? {
        return Ok(Found::Id(journal::find(connection, &past)?));
    }
    let name = match Reference::parse(text) {
        Ok(name) => name.or_latest(),
        Err(error) => {
            // `sha256:abc` is a name with a tag; only longer prefixes than a tag get here.
            return find_prefix(connection, text)?.ok_or(ResolveError::Invalid(error));
        }
    };
    let named = match name.digest() {
        Some(digest) => tag::find_digest(connection, &name.repository(), digest)?,
        None => tag::find(connection, &name)?,
    };
    if let Some(id) = named {
        return Ok(Found::Name(name, id));
    }
    find_prefix(connection, text)?.ok_or_else(|| not_found(name.familiar()))
}

/// Finds an image by the start of its id.
fn find_prefix(connection: &Connection, text: &str) -> Result<Option<Found>, ResolveError> {
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_hex) {
        return Ok(None);
    }
    let bound = |filler: char| -> Option<Digest> {
        let hex: String = prefix
            .chars()
            .chain(std::iter::repeat(filler))
            .take(64)
            .collect();
        Digest::from_hex(&hex)
    };
    let (Some(first), Some(last)) = (bound('0'), bound('f')) else {
        return Ok(None);
    };
    let found = ids_between(connection, &first, &last)?;
    match found.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some(Found::Id(*id))),
        several => Err(ResolveError::Ambiguous {
            prefix: text.to_owned(),
            count: several.len(),
        }),
    }
}

fn ids_between(
    connection: &Connection,
    first: &Digest,
    last: &Digest,
) -> Result<Vec<ImageId>, StoreError> {
    let mut query =
        connection.prepare_cached("SELECT id FROM images WHERE id BETWEEN ?1 AND ?2")?;
    let rows = query.query_map([first.as_bytes(), last.as_bytes()], |row| {
        db::digest(row, 0).map(ImageId)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
