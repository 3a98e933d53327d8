//! Fields that other readers may take for another.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The fields of manifests, indexes and descriptors.
const FIELDS: [&str; 12] = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "fsLayers",
    "manifests",
    "digest",
    "size",
    "urls",
    "platform",
    "artifactType",
    "annotations",
];

/// Reads a document for the names of its fields only. Programs in Go take `Layers` for `layers`:
/// a document that has such a field says one thing to them and another to us, and is an error.
#[derive(Debug)]
pub(crate) struct PlainFields;

impl<'de> Deserialize<'de> for PlainFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainFields)
    }
}

impl<'de> Visitor<'de> for PlainFields {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let folded = folded(&name);
            let meant = FIELDS
                .iter()
                .find(|field| **field != name && self::folded(field) == folded);
            if let Some(meant) = meant {
                return Err(A::Error::custom(format_args!(
                    "field `{}` reads as `{meant}` to some programs",
                    name.escape_debug()
                )));
            }
            match name.as_str() {
                // Whoever writes them chooses their names.
                "annotations" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    map.next_value::<PlainFields>()?;
                }
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<PlainFields>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }
}

/// Two letters beyond ASCII fold to ASCII ones: the long s and the sign of Kelvin.
fn folded(name: &str) -> String {
    let upper = name.chars().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}
