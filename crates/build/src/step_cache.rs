//! The document in which the steps of a build travel between stores.
//!
//! It has the form of the configuration of BuildKit's cache manifests, so that registries and
//! tools know what it is, with keys of our own and what BuildKit's records do not have beside
//! them. `docs/build-cache.md` describes it.

use std::collections::{BTreeMap, HashMap, HashSet};

use oci::{ChainId, Descriptor, DiffId, Digest, ImageConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Store, StoreError, Timestamp};

use crate::BuiltStep;

/// Which keys the records have. It changes with the meaning of a key or a record.
const KEYS: &str = "strata.v1";
/// The member of an image's configuration that holds its steps.
const INLINE: &str = "strata.cache.v1";
/// The same of BuildKit.
const INLINE_OF_BUILDKIT: &str = "moby.buildkit.cache.v0";
/// More steps than builds have.
const MAX_RECORDS: usize = 100_000;
/// More layers than builds have.
const MAX_LAYERS: usize = 20_000;
/// More seconds than a step takes.
const LONGEST: f64 = 1e9;
/// BuildKit's mark of a layer that stands on nothing here.
const NO_PARENT: i64 = -1;

/// What was remembered of the steps of builds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepCache {
    /// The steps, by the key of the step cache.
    pub steps: BTreeMap<Digest, CachedStep>,
    /// The layers that can be fetched, each after the one below it.
    pub layers: Vec<CachedLayer>,
}

/// What a step made.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedStep {
    /// Its layer.
    pub layer: DiffId,
    /// What it ran on.
    pub parent_chain: Option<ChainId>,
    /// The time that its files were clamped to.
    pub epoch: i64,
    /// How long it took, where that is told.
    pub seconds: f64,
    /// When it was made, where that is told.
    pub made: Option<Timestamp>,
}

/// A layer that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLayer {
    /// What it unpacks to.
    pub diff_id: DiffId,
    /// What is fetched.
    pub blob: Descriptor,
    /// The layer below it in [`StepCache::layers`].
    pub parent: Option<usize>,
}

/// Why a document is no step cache.
#[derive(Debug, thiserror::Error)]
pub enum StepCacheError {
    /// It is not JSON of the expected form.
    #[error("malformed cache")]
    Malformed(#[source] serde_json::Error),
    /// BuildKit wrote it.
    #[error(
        "the cache was written by BuildKit, whose keys say nothing here: export one with --cache-to"
    )]
    OfBuildKit,
    /// A later version wrote it.
    #[error("the cache has keys of another kind: {0:?}, expected {KEYS:?}")]
    OtherKeys(String),
    /// It is an image, and carries no cache.
    #[error("the image carries no cache: build it with --cache-to type=inline")]
    NotInline,
    /// It has more than can be meant.
    #[error("the cache has {found} {what}, more than {limit}")]
    TooMany {
        /// Records or layers.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// A record depends on others, which ours never do.
    #[error("record {0} of the cache has inputs")]
    Inputs(usize),
    /// A record or layer names a layer that is not there, or not below it.
    #[error("{what} {index} of the cache names layer {layer}, which it cannot")]
    Layer {
        /// Record or layer.
        what: &'static str,
        /// Which.
        index: usize,
        /// What it names.
        layer: i64,
    },
    /// A record names one layer, its result another.
    #[error("record {0} of the cache names two layers")]
    TwoLayers(usize),
    /// Two records have one key and differ.
    #[error("the cache has two results for {0}")]
    TwoResults(Digest),
    /// The manifest does not list a layer as the configuration has it.
    #[error("the cache manifest does not list layer {0} as its configuration has it")]
    NotListed(Digest),
}

/// What BuildKit reads, and `keys`.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<Record>,
    #[serde(default)]
    keys: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Layer {
    blob: Digest,
    #[serde(default)]
    parent: i64,
    annotations: Annotations,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotations {
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: DiffId,
    size: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Outcome>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    inputs: Value,
    step: Step,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(default)]
    layer: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

/// What the record of a step has beside BuildKit's members.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(rename = "diffID")]
    diff_id: DiffId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent_chain: Option<ChainId>,
    epoch: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

impl StepCache {
    /// The media type of the document, as a manifest's configuration.
    pub const MEDIA_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";

    /// Returns the document. Equal caches give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let layer = |layer: &CachedLayer| Layer {
            blob: layer.blob.digest,
            parent: layer.parent.map_or(NO_PARENT, position),
            annotations: Annotations {
                media_type: layer.blob.media_type.0.clone(),
                diff_id: layer.diff_id,
                size: layer.blob.size,
            },
        };
        let places = self.layers.iter().map(|layer| layer.diff_id);
        let document = Document {
            layers: self.layers.iter().map(layer).collect(),
            records: self.records(&places.collect::<Vec<_>>(), true),
            keys: Some(KEYS.to_owned()),
        };
        serde_json::to_vec(&document).expect("invariant: all keys are strings")
    }

    /// Returns the configuration of an image with these layers, with the steps at its end.
    /// Nothing of them depends on when or how fast they were made.
    pub fn add_to_config(&self, config: &ImageConfig, layers: &[DiffId]) -> Vec<u8> {
        let mut bytes = config.to_bytes();
        let steps = json!({ "keys": KEYS, "records": self.records(layers, false) });
        let end = bytes.pop();
        debug_assert_eq!(end, Some(b'}'), "a configuration is an object");
        bytes.extend_from_slice(format!(",{INLINE:?}:{steps}}}").as_bytes());
        bytes
    }

    /// Returns the records of the steps; results are places in `layers`.
    fn records(&self, layers: &[DiffId], with_times: bool) -> Vec<Record> {
        let mut places = HashMap::new();
        for (place, layer) in layers.iter().enumerate() {
            places.entry(*layer).or_insert(place);
        }
        let record = |(key, step): (&Digest, &CachedStep)| {
            let made = step.made.filter(|_| with_times);
            let outcome = places.get(&step.layer).map(|place| Outcome {
                layer: position(*place),
                created_at: made.map(|made| made.to_string()),
            });
            Record {
                digest: *key,
                layers: outcome.into_iter().collect(),
                inputs: Value::Null,
                step: Step {
                    diff_id: step.layer,
                    parent_chain: step.parent_chain,
                    epoch: step.epoch,
                    seconds: with_times.then_some(step.seconds),
                },
            }
        };
        self.steps.iter().map(record).collect()
    }

    /// Reads the document of a manifest that lists `blobs`.
    pub fn parse(bytes: &[u8], blobs: &[Descriptor]) -> Result<Self, StepCacheError> {
        let value: Value = serde_json::from_slice(bytes).map_err(StepCacheError::Malformed)?;
        let document = document(value)?;
        limit("layers", document.layers.len(), MAX_LAYERS)?;
        let listed: HashMap<Digest, &Descriptor> =
            blobs.iter().map(|blob| (blob.digest, blob)).collect();
        let mut layers = Vec::with_capacity(document.layers.len());
        for (index, layer) in document.layers.iter().enumerate() {
            let parent = match layer.parent {
                NO_PARENT => None,
                parent => Some(below(parent, index).ok_or(StepCacheError::Layer {
                    what: "layer",
                    index,
                    layer: parent,
                })?),
            };
            let size = layer.annotations.size;
            let blob = listed.get(&layer.blob).filter(|blob| blob.size == size);
            let blob = *blob.ok_or(StepCacheError::NotListed(layer.blob))?;
            layers.push(CachedLayer {
                diff_id: layer.annotations.diff_id,
                blob: blob.clone(),
                parent,
            });
        }
        Self::of(document.records, layers)
    }

    /// Reads the steps that the configuration of an image carries. `blobs` are the layers of its
    /// manifest, `layers` what they unpack to.
    pub fn of_config(
        config: &[u8],
        blobs: &[Descriptor],
        layers: &[DiffId],
    ) -> Result<Self, StepCacheError> {
        let mut value: Value = serde_json::from_slice(config).map_err(StepCacheError::Malformed)?;
        let is_of_buildkit = value.get(INLINE_OF_BUILDKIT).is_some();
        let Some(inline) = value.get_mut(INLINE).map(Value::take) else {
            return Err(match is_of_buildkit {
                true => StepCacheError::OfBuildKit,
                false => StepCacheError::NotInline,
            });
        };
        let records = document(inline)?.records;
        let layers = blobs.iter().zip(layers).enumerate();
        let layers = layers.map(|(index, (blob, diff_id))| CachedLayer {
            diff_id: *diff_id,
            blob: blob.clone(),
            parent: index.checked_sub(1),
        });
        Self::of(records, layers.collect())
    }

    fn of(records: Vec<Record>, layers: Vec<CachedLayer>) -> Result<Self, StepCacheError> {
        limit("records", records.len(), MAX_RECORDS)?;
        let mut steps = BTreeMap::new();
        for (index, record) in records.into_iter().enumerate() {
            // What has no inputs is never part of a circle.
            if !record.inputs.is_null() {
                return Err(StepCacheError::Inputs(index));
            }
            let mut made = None;
            for outcome in &record.layers {
                let place = below(outcome.layer, layers.len());
                let layer = place.map(|place| layers[place].diff_id);
                let layer = layer.ok_or(StepCacheError::Layer {
                    what: "record",
                    index,
                    layer: outcome.layer,
                })?;
                if layer != record.step.diff_id {
                    return Err(StepCacheError::TwoLayers(index));
                }
                made = outcome.created_at.as_deref().and_then(Timestamp::parse);
            }
            let step = CachedStep {
                layer: record.step.diff_id,
                parent_chain: record.step.parent_chain,
                epoch: record.step.epoch,
                seconds: record.step.seconds.unwrap_or_default().clamp(0.0, LONGEST),
                made,
            };
            let before = steps.insert(record.digest, step.clone());
            if before.is_some_and(|before: CachedStep| before.layer != step.layer) {
                return Err(StepCacheError::TwoResults(record.digest));
            }
        }
        Ok(Self { steps, layers })
    }

    /// Returns the layers that can be fetched.
    pub fn available(&self) -> HashSet<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }
}

/// Returns the steps of a build under all keys that are known to lead to them: the one by which a
/// step was found may be a shortcut, and another build may need the other.
pub fn remembered(
    store: &Store,
    steps: &[BuiltStep],
) -> Result<BTreeMap<Digest, CachedStep>, StoreError> {
    let mut found = BTreeMap::new();
    let mut places = HashMap::new();
    for BuiltStep { keys, made, .. } in steps {
        found.extend(keys.iter().map(|key| (*key, made.clone())));
        places.insert((made.layer, made.parent_chain), made);
    }
    for record in store.steps()? {
        let place = record.layer.map(|layer| (layer, record.parent_chain));
        let Some(made) = place.and_then(|place| places.get(&place)) else {
            continue;
        };
        let epoch = record.ingredients["epoch"].as_i64();
        let step = CachedStep {
            epoch: epoch.unwrap_or(made.epoch),
            seconds: record.seconds,
            made: Some(record.created),
            ..(*made).clone()
        };
        found.insert(record.key, step);
    }
    Ok(found)
}

/// Reads a document of ours. Whose it is is told before what is wrong with it.
fn document(value: Value) -> Result<Document, StepCacheError> {
    match value.get("keys").and_then(Value::as_str) {
        Some(KEYS) => serde_json::from_value(value).map_err(StepCacheError::Malformed),
        Some(other) => Err(StepCacheError::OtherKeys(other.to_owned())),
        None => Err(StepCacheError::OfBuildKit),
    }
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), StepCacheError> {
    match found > limit {
        true => Err(StepCacheError::TooMany { what, found, limit }),
        false => Ok(()),
    }
}

fn position(index: usize) -> i64 {
    i64::try_from(index).expect("invariant: few layers")
}

/// Returns `index` when it is one of what comes before `end`.
fn below(index: i64, end: usize) -> Option<usize> {
    usize::try_from(index).ok().filter(|index| *index < end)
}

#[cfg(test)]
mod tests {
    use oci::MediaType;
    use testkit::random::Random;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn blob(text: &str) -> Descriptor {
        Descriptor::of(MediaType::OCI_LAYER_GZIP, text.as_bytes())
    }

    fn step(layer: &str) -> CachedStep {
        CachedStep {
            layer: DiffId(digest(layer)),
            parent_chain: ChainId::of(&[DiffId(digest("below"))]),
            epoch: 7,
            seconds: 1.5,
            made: Some(Timestamp(1_000_000_000)),
        }
    }

    fn cache() -> StepCache {
        let layer = |name: &str, parent| CachedLayer {
            diff_id: DiffId(digest(name)),
            blob: blob(name),
            parent,
        };
        let mut steps: BTreeMap<Digest, CachedStep> =
            ["a", "b"].map(|name| (digest(name), step(name))).into();
        let unavailable = CachedStep {
            made: None,
            ..step("c")
        };
        steps.insert(digest("c"), unavailable);
        StepCache {
            steps,
            layers: vec![layer("a", None), layer("b", Some(0))],
        }
    }

    /// Reads the document after a change.
    fn changed(change: impl FnOnce(&mut Value)) -> Result<StepCache, StepCacheError> {
        let mut value = serde_json::from_slice(&cache().to_bytes()).expect("valid");
        change(&mut value);
        let bytes = serde_json::to_vec(&value).expect("valid");
        StepCache::parse(&bytes, &[blob("a"), blob("b")])
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(changed(|_| {}).expect("valid"), cache());
    }

    #[test]
    fn a_configuration_carries_steps_without_times() {
        let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let layers = [DiffId(digest("a"))];
        let parsed = ImageConfig::parse(config).expect("valid");
        let bytes = cache().add_to_config(&parsed, &layers);
        assert_eq!(ImageConfig::parse(&bytes).expect("valid"), parsed);
        let found = StepCache::of_config(&bytes, &[blob("a")], &layers).expect("valid");
        assert_eq!(found.steps.len(), 3);
        assert_eq!(found.available(), HashSet::from(layers));
        let timeless = CachedStep {
            seconds: 0.0,
            made: None,
            ..step("a")
        };
        assert_eq!(found.steps[&digest("a")], timeless);
        let none = StepCache::of_config(config, &[], &[]).expect_err("none");
        assert!(matches!(none, StepCacheError::NotInline), "{none}");
        let other = br#"{"moby.buildkit.cache.v0":"e30="}"#;
        let none = StepCache::of_config(other, &[], &[]).expect_err("none");
        assert!(matches!(none, StepCacheError::OfBuildKit), "{none}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |change: &dyn Fn(&mut Value), expected: &str| {
            let error = changed(|value| change(value)).expect_err(expected);
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error}: {}", source.unwrap_or_default());
            assert!(text.contains(expected), "{text:?} {expected:?}");
        };
        let remove_keys = |value: &mut Value| {
            value.as_object_mut().expect("an object").remove("keys");
        };
        check(&remove_keys, "written by BuildKit");
        check(&|v| v["keys"] = json!("strata.v9"), "another kind");
        check(
            &|v| v["records"][0]["digest"] = json!("md5:00"),
            "malformed cache",
        );
        check(
            &|v| v["records"][0]["inputs"] = json!([[{ "link": 0 }]]),
            "record 0 of the cache has inputs",
        );
        let circle = |v: &mut Value| v["layers"][0]["parent"] = json!(1);
        check(&circle, "layer 0 of the cache names layer 1");
        check(&|v| v["layers"][1]["parent"] = json!(1), "names layer 1");
        check(&|v| v["layers"][1]["parent"] = json!(-2), "names layer -2");
        check(
            &|v| v["layers"][0]["annotations"]["size"] = json!(2),
            "does not list",
        );
        check(
            &|v| v["layers"][0]["blob"] = json!(digest("x").to_string()),
            "does not list",
        );
        let other_layer = |v: &mut Value| {
            for record in v["records"].as_array_mut().expect("a list") {
                record["step"]["diffID"] = json!(digest("x").to_string());
            }
        };
        check(&other_layer, "names two layers");
        let out_of_range = |v: &mut Value| {
            for record in v["records"].as_array_mut().expect("a list") {
                record["layers"] = json!([{ "layer": 7 }]);
            }
        };
        check(&out_of_range, "names layer 7");
        let twice = |v: &mut Value| {
            let mut record = v["records"][0].clone();
            record["layers"] = json!([]);
            record["step"]["diffID"] = json!(digest("x").to_string());
            v["records"].as_array_mut().expect("a list").push(record);
        };
        check(&twice, "two results");
    }

    #[test]
    fn damaged_documents_end_in_an_answer() {
        let bytes = cache().to_bytes();
        let blobs = [blob("a"), blob("b")];
        let mut random = Random::new(11);
        let mut accepted = 0;
        for _ in 0..3000 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(2) {
                let place = random.below(damaged.len());
                damaged[place] = *random.choice(b"0123456789-\"{}[],:aexyz");
            }
            // What is taken survives being written and read.
            if let Ok(found) = StepCache::parse(&damaged, &blobs) {
                accepted += 1;
                let again = StepCache::parse(&found.to_bytes(), &blobs).expect("valid");
                assert_eq!(again, found);
            }
        }
        assert!(accepted > 0);
    }
}
