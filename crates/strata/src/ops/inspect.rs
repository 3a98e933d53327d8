//! Images and containers as docker's JSON.

use oci::{ImageConfig, RunConfig};
use serde_json::{Map, Value, json};
use store::{ImageRecord, Store, StoreError};

/// What `image inspect` shows of an image, its keys in docker's order.
pub fn image(store: &Store, image: &ImageRecord) -> Result<Value, StoreError> {
    let config = store.image_config(&image.id)?;
    let names = |names: &[oci::Reference]| -> Vec<String> {
        names.iter().map(oci::Reference::familiar).collect()
    };
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    set("Id", json!(image.id.to_string()));
    set("RepoTags", json!(names(&image.tags)));
    set("RepoDigests", json!(names(&image.repo_digests)));
    let parent = image.parent.map(|parent| parent.to_string());
    set("Parent", json!(parent.unwrap_or_default()));
    set("Comment", json!(comment(&config)));
    set("Created", json!(config.created));
    set("DockerVersion", json!(config.docker_version));
    set("Author", json!(config.author));
    set("Architecture", json!(config.architecture));
    if let Some(variant) = &config.variant {
        set("Variant", json!(variant));
    }
    set("Os", json!(config.os));
    if let Some(version) = &config.os_version {
        set("OsVersion", json!(version));
    }
    set("Size", json!(image.size));
    let layers: Vec<String> = image
        .layers
        .iter()
        .map(|layer| store.layer_dir(layer).display().to_string())
        .collect();
    set(
        "GraphDriver",
        json!({"Data": {"Layers": layers.join(":")}, "Name": "strata"}),
    );
    set(
        "RootFS",
        json!({"Type": "layers", "Layers": config.rootfs.diff_ids}),
    );
    let tagged = image.last_tagged.clone();
    set(
        "Metadata",
        json!({"LastTagTime": tagged.unwrap_or_else(|| ZERO_TIME.to_owned())}),
    );
    if let Some(manifest) = &image.manifest {
        set(
            "Descriptor",
            json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.size,
            }),
        );
    }
    set("Config", run_config(&config.config));
    Ok(Value::Object(object))
}

/// Go's zero time, which docker writes for "never".
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

fn comment(config: &ImageConfig) -> &str {
    match (config.comment.as_str(), config.history.last()) {
        ("", Some(last)) => &last.comment,
        (comment, _) => comment,
    }
}

/// The configuration with its keys sorted, as docker prints it.
fn run_config(config: &RunConfig) -> Value {
    let value = serde_json::to_value(config).expect("a configuration has only string keys");
    sorted(value)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(String, Value)> = object.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            let entries = entries.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(entries.collect())
        }
        other => other,
    }
}
