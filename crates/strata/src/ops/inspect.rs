//! Images and containers as docker's JSON.

use oci::{ImageConfig, RunConfig};
use serde_json::{Map, Value, json};
use store::{ContainerRecord, ContainerState, ImageRecord, Store, StoreError};

use crate::container::Container;
use crate::container::status::Status;

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
    let tagged = image.last_tagged.map(|time| time.to_string());
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

/// What `container inspect` shows, its keys in docker's order.
pub fn container(store: &Store, container: &Container) -> Value {
    let record = &container.record;
    let options = &container.options;
    let directory = store.container_dir(&record.id);
    let file = |name: &str| directory.join(name).display().to_string();
    let (program, arguments) = match record.command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", &[][..]),
    };
    let binds: Vec<String> = options
        .binds
        .iter()
        .map(|bind| {
            let mode = if bind.read_only { ":ro" } else { "" };
            format!("{}:{}{mode}", bind.source.display(), bind.target)
        })
        .collect();
    let mounts: Vec<Value> = options
        .binds
        .iter()
        .map(|bind| {
            json!({
                "Type": "bind",
                "Source": bind.source,
                "Destination": bind.target,
                "Mode": if bind.read_only { "ro" } else { "" },
                "RW": !bind.read_only,
                "Propagation": "rprivate",
            })
        })
        .collect();
    json!({
        "Id": record.id,
        "Created": record.created.to_string(),
        "Path": program,
        "Args": arguments,
        "State": state(store, record),
        "Image": record.image.to_string(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": container.log_path(store),
        "Name": format!("/{}", record.name),
        "RestartCount": 0,
        "Driver": "strata",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": {
            "Binds": binds,
            "NetworkMode": options.network.name(),
            "AutoRemove": record.auto_remove,
            "ReadonlyRootfs": options.read_only,
            "Privileged": false,
        },
        "GraphDriver": {
            "Data": {"UpperDir": file("rw/upper"), "WorkDir": file("rw/work")},
            "Name": "strata",
        },
        "Mounts": mounts,
        "Config": container_config(container),
        "NetworkSettings": {"Networks": {options.network.name(): {}}},
    })
}

fn container_config(container: &Container) -> Value {
    let options = &container.options;
    let config = &options.config;
    json!({
        "Hostname": options.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": options.stdin,
        "AttachStdout": true,
        "AttachStderr": true,
        "ExposedPorts": config.exposed_ports,
        "Tty": options.tty,
        "OpenStdin": options.stdin,
        "StdinOnce": options.stdin,
        "Env": config.env,
        "Cmd": config.cmd,
        "Image": container.record.image_name,
        "Volumes": config.volumes,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": null,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
    })
}

fn state(store: &Store, record: &ContainerRecord) -> Value {
    let status = Status::of(store, record);
    let (pid, code, started, finished) = match (&record.state, &status) {
        (ContainerState::Running { pid, started, .. }, Status::Running { .. }) => {
            (*pid, 0, Some(*started), None)
        }
        (ContainerState::Running { started, .. }, _) => (0, status.code(), Some(*started), None),
        (
            ContainerState::Exited {
                code,
                started,
                finished,
            },
            _,
        ) => (0, *code, Some(*started), Some(*finished)),
        (ContainerState::Created, _) => (0, 0, None, None),
    };
    let time = |time: Option<store::Timestamp>| {
        time.map_or_else(|| ZERO_TIME.to_owned(), |time| time.to_string())
    };
    json!({
        "Status": status.name(),
        "Running": matches!(status, Status::Running { .. }),
        "Paused": false,
        "Restarting": false,
        "OOMKilled": false,
        "Dead": false,
        "Pid": pid,
        "ExitCode": code,
        "Error": "",
        "StartedAt": time(started),
        "FinishedAt": time(finished),
    })
}
