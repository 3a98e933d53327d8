//! A planned layer to its tar.

use std::collections::{BTreeSet, HashMap};
use std::io;

use layer::{Entry, EntryKind, LayerWriter};

use super::target::{Target, parent};
use super::{CopyError, Source};
use crate::context::{components, join};

impl Target<'_> {
    /// Writes what is planned, sorted by path, until `is_canceled`. Directories of the parent that something is put
    /// into are written as they are there: engines that unpack layers one by one would make
    /// them anew otherwise.
    pub(crate) fn write(
        &self,
        source: &Source<'_>,
        writer: &mut LayerWriter,
        is_canceled: &dyn Fn() -> bool,
    ) -> Result<(), CopyError> {
        let mut written: BTreeSet<&[u8]> = BTreeSet::new();
        let mut names: HashMap<(usize, (u64, u64)), &[u8]> = HashMap::new();
        for (path, planned) in &self.planned {
            if is_canceled() {
                return Err(CopyError::Canceled);
            }
            self.write_parents(path, &mut written, writer)?;
            if let Some(group) = planned.group
                && let Some(first) = names.insert(group, path)
            {
                names.insert(group, first);
                let entry = Entry {
                    kind: EntryKind::Hardlink {
                        target: first.to_vec(),
                    },
                    ..planned.entry.clone()
                };
                writer.append(&entry, &mut io::empty())?;
                continue;
            }
            match planned.entry.kind {
                EntryKind::File { .. } => {
                    source.stream(&planned.content, &mut |reader| {
                        Ok(writer.append(&planned.entry, reader)?)
                    })?;
                }
                _ => writer.append(&planned.entry, &mut io::empty())?,
            }
            if planned.entry.kind == EntryKind::Directory {
                written.insert(path);
                if self.hidden.contains(path) {
                    writer.opaque(path)?;
                }
            }
        }
        Ok(())
    }

    fn write_parents<'b>(
        &self,
        path: &'b [u8],
        written: &mut BTreeSet<&'b [u8]>,
        writer: &mut LayerWriter,
    ) -> Result<(), CopyError> {
        let above = parent(path);
        if above.is_empty() || written.contains(above) {
            return Ok(());
        }
        let mut length = 0;
        for name in components(above) {
            length = join(&above[..length], name).len();
            let directory = &path[..length];
            if !written.insert(directory) {
                continue;
            }
            if let Some(entry) = self.get(directory)? {
                writer.append(&entry, &mut io::empty())?;
            }
        }
        Ok(())
    }
}
