//! Which record needs which files.

use oci::{Digest, ImageId};
use rusqlite::Connection;

use crate::sweep::Needed;
use crate::{ContainerRecord, StoreError, Timestamp, container, db};

/// A record that needs files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Image(ImageId),
    /// A tag needs the manifest that it came with, and the document that it leads to.
    Tag {
        key: String,
        image: Option<ImageId>,
    },
    /// By its id.
    Container(String),
    /// By its key.
    Step(Digest),
    /// By the digest of its log.
    Build(Digest),
    /// Parts of an image that has not come yet.
    Lease,
}

/// What one record needs.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) holder: Holder,
    pub(crate) layers: Vec<Digest>,
    pub(crate) blobs: Vec<Digest>,
}

/// What every record needs.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) claims: Vec<Claim>,
    /// Blobs that are compressed forms, each with its layer, which needs it.
    pub(crate) compressions: Vec<(Digest, Digest)>,
}

impl Census {
    /// Reads all records. Documents of images that their tags have left need nothing.
    pub(crate) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let mut census = Self::default();
        census.read_images(connection)?;
        census.read_containers(connection)?;
        census.read_tags(connection)?;
        census.read_steps(connection)?;
        census.read_builds(connection)?;
        census.read_leases(connection)?;
        let mut query = connection.prepare_cached("SELECT digest, diff_id FROM compressions")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let pair = (db::digest(row, 0)?, db::digest(row, 1)?);
            census.compressions.push(pair);
        }
        Ok(census)
    }

    /// Collects what the records that stay need together.
    pub(crate) fn needed(&self, stays: impl Fn(&Holder) -> bool) -> Needed {
        let mut needed = Needed::default();
        for claim in self.claims.iter().filter(|claim| stays(&claim.holder)) {
            needed.layers.extend(&claim.layers);
            needed.blobs.extend(&claim.blobs);
            if let Holder::Container(id) = &claim.holder {
                needed.containers.insert(id.clone());
            }
        }
        let compressed = self.compressions.iter();
        let compressed = compressed.filter(|(_, layer)| needed.layers.contains(layer));
        needed.blobs.extend(compressed.map(|(blob, _)| *blob));
        needed
    }

    fn claim(&mut self, holder: Holder, layers: Vec<Digest>, blobs: Vec<Digest>) {
        self.claims.push(Claim {
            holder,
            layers,
            blobs,
        });
    }

    fn read_images(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut query = connection.prepare_cached("SELECT id, manifest, layers FROM images")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let id = db::digest(row, 0)?;
            let mut blobs = vec![id];
            blobs.extend(db::optional_digest(row, 1)?);
            let layers = db::layers(row, 2)?;
            let layers = layers.iter().map(|layer| *layer.digest()).collect();
            self.claim(Holder::Image(ImageId(id)), layers, blobs);
        }
        Ok(())
    }

    fn read_containers(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut query = connection.prepare_cached("SELECT id, image, record FROM containers")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let record: ContainerRecord = container::decode(&row.get::<_, String>(2)?)?;
            let layers = record.layers.iter().map(|layer| *layer.digest()).collect();
            let blobs = vec![db::digest(row, 1)?];
            self.claim(Holder::Container(row.get(0)?), layers, blobs);
        }
        Ok(())
    }

    fn read_tags(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut query = connection
            .prepare_cached("SELECT name, image, manifest FROM tags WHERE manifest IS NOT NULL")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let holder = Holder::Tag {
                key: row.get(0)?,
                image: Some(ImageId(db::digest(row, 1)?)),
            };
            self.claim(holder, Vec::new(), vec![db::digest(row, 2)?]);
        }
        let mut query = connection.prepare_cached(
            "SELECT p.name, s.image, p.part FROM served s JOIN served_parts p ON p.name = s.name
                WHERE s.image IS (SELECT image FROM tags t WHERE t.name = s.name)
                ORDER BY p.name",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let holder = Holder::Tag {
                key: row.get(0)?,
                image: db::optional_digest(row, 1)?.map(ImageId),
            };
            // A part is a blob, or a layer whose tar is one.
            let part = db::digest(row, 2)?;
            match self.claims.last_mut() {
                Some(claim) if claim.holder == holder => {
                    claim.layers.push(part);
                    claim.blobs.push(part);
                }
                _ => self.claim(holder, vec![part], vec![part]),
            }
        }
        Ok(())
    }

    fn read_steps(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut query =
            connection.prepare_cached("SELECT key, layer FROM steps WHERE layer IS NOT NULL")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let holder = Holder::Step(db::digest(row, 0)?);
            self.claim(holder, vec![db::digest(row, 1)?], Vec::new());
        }
        Ok(())
    }

    fn read_builds(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let query = "SELECT log FROM builds WHERE log IS NOT NULL";
        let mut query = connection.prepare_cached(query)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let log = db::digest(row, 0)?;
            self.claim(Holder::Build(log), Vec::new(), vec![log]);
        }
        Ok(())
    }

    fn read_leases(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let now = Timestamp::now().0;
        let leased = |query: &str| -> Result<Vec<Digest>, StoreError> {
            let mut query = connection.prepare_cached(query)?;
            let rows = query.query_map([now], |row| db::digest(row, 0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let layers = leased("SELECT diff_id FROM layers WHERE leased_until > ?1")?;
        let blobs = leased("SELECT digest FROM blobs WHERE leased_until > ?1")?;
        if !layers.is_empty() || !blobs.is_empty() {
            self.claim(Holder::Lease, layers, blobs);
        }
        Ok(())
    }
}

/// Collects what images, containers, tags, build steps, builds and leases need.
pub(crate) fn needed(connection: &Connection) -> Result<Needed, StoreError> {
    Ok(Census::read(connection)?.needed(|_| true))
}
