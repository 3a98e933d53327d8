//! Images that others make, in every form that they make.

use std::fs;

use oci::Digest;
use serde_json::{Value, json};

use crate::base;
use crate::place::{Place, output};
use crate::registry::Registry;

const DOCKERFILE: &str = r#"FROM scratch
COPY arch /etc/arch
ADD base.tar /
CMD ["cat", "/etc/arch"]
"#;

/// A form and how it comes to be.
pub(crate) struct Form {
    /// Who makes what: the first word is a program.
    pub(crate) name: &'static str,
    /// Commands. `TO` is the image at the registry, `DIR` a new directory, `LIST` an index of podman's
    /// in a layout. The images that they take are those of [`build`].
    commands: &'static [&'static str],
    /// What has to stand in the manifests, lest a peer quietly makes another form.
    shows: &'static [&'static str],
}

impl Form {
    pub(crate) fn maker(&self) -> &'static str {
        self.name.split(' ').next().unwrap()
    }

    /// Returns the name as a part of others.
    pub(crate) fn slug(&self) -> String {
        self.name.replace([' ', ':'], "-")
    }
}

/// Every form that podman 4.3, buildah 1.28 and skopeo 1.9 make. None of them makes schema 2 with
/// zstd, and only skopeo leaves layers uncompressed.
pub(crate) const FORMS: &[Form] = &[
    Form {
        name: "podman oci gzip",
        commands: &["podman push -q -f oci --compression-format gzip localhost/oci:amd64 TO"],
        shows: &["oci.image.manifest", "tar+gzip"],
    },
    Form {
        name: "podman oci zstd",
        commands: &["podman push -q -f oci --compression-format zstd localhost/oci:amd64 TO"],
        shows: &["oci.image.manifest", "tar+zstd"],
    },
    Form {
        name: "podman oci zstd:chunked",
        commands: &[
            "podman push -q -f oci --compression-format zstd:chunked localhost/oci:amd64 TO",
        ],
        shows: &["oci.image.manifest", "tar+zstd", "zstd-chunked.manifest"],
    },
    Form {
        name: "podman schema2 gzip",
        commands: &["podman push -q -f v2s2 localhost/docker:amd64 TO"],
        shows: &["distribution.manifest.v2", "diff.tar.gzip"],
    },
    Form {
        name: "podman index gzip",
        commands: &["podman manifest push -q --all -f oci localhost/list TO"],
        shows: &["image.index", "oci.image.manifest", "arm64", "tar+gzip"],
    },
    Form {
        name: "podman index zstd",
        commands: &[
            "podman manifest push -q --all -f oci --compression-format zstd localhost/list TO",
        ],
        shows: &["image.index", "oci.image.manifest", "arm64", "tar+zstd"],
    },
    Form {
        name: "podman list schema2",
        commands: &["podman manifest push -q --all -f v2s2 localhost/list TO"],
        shows: &["manifest.list", "manifest.v2", "arm64", "diff.tar.gzip"],
    },
    Form {
        name: "buildah oci gzip",
        commands: &["buildah push -q localhost/oci:amd64 TO"],
        shows: &["oci.image.manifest", "tar+gzip"],
    },
    Form {
        name: "buildah oci zstd",
        commands: &["buildah push -q --compression-format zstd localhost/oci:amd64 TO"],
        shows: &["oci.image.manifest", "tar+zstd"],
    },
    Form {
        name: "buildah schema2 gzip",
        commands: &["buildah push -q localhost/docker:amd64 TO"],
        shows: &["distribution.manifest.v2", "diff.tar.gzip"],
    },
    Form {
        name: "buildah index gzip",
        commands: &["buildah manifest push -q --all -f oci localhost/list TO"],
        shows: &["image.index", "oci.image.manifest", "arm64", "tar+gzip"],
    },
    Form {
        name: "buildah list schema2",
        commands: &["buildah manifest push -q --all -f v2s2 localhost/list TO"],
        shows: &["manifest.list", "manifest.v2", "arm64", "diff.tar.gzip"],
    },
    Form {
        name: "buildah index of both",
        commands: &["buildah manifest push -q --all localhost/mixed TO"],
        shows: &["image.index", "oci.image.manifest", "manifest.v2", "arm64"],
    },
    Form {
        name: "skopeo oci zstd",
        commands: &[
            "skopeo copy -q --dest-compress-format zstd containers-storage:localhost/oci:amd64 TO",
        ],
        shows: &["oci.image.manifest", "tar+zstd"],
    },
    Form {
        name: "skopeo oci uncompressed",
        commands: &[
            "skopeo copy -q --dest-decompress containers-storage:localhost/oci:amd64 dir:DIR",
            "skopeo copy -q --preserve-digests dir:DIR TO",
        ],
        shows: &["oci.image.manifest", "v1.tar\""],
    },
    Form {
        name: "skopeo schema2 of oci",
        commands: &["skopeo copy -q -f v2s2 containers-storage:localhost/oci:amd64 TO"],
        shows: &["distribution.manifest.v2", "diff.tar.gzip"],
    },
    Form {
        name: "skopeo schema2 uncompressed",
        commands: &[
            "skopeo copy -q --dest-decompress containers-storage:localhost/docker:amd64 dir:DIR",
            "skopeo copy -q --preserve-digests dir:DIR TO",
        ],
        shows: &["distribution.manifest.v2", "diff.tar\""],
    },
    Form {
        name: "skopeo oci of schema2",
        commands: &["skopeo copy -q -f oci containers-storage:localhost/docker:amd64 TO"],
        shows: &["oci.image.manifest", "tar+gzip"],
    },
    Form {
        name: "skopeo index gzip",
        commands: &["skopeo copy -q --all oci:LIST TO"],
        shows: &["image.index", "oci.image.manifest", "arm64", "tar+gzip"],
    },
    Form {
        name: "skopeo list schema2",
        commands: &["skopeo copy -q --all -f v2s2 oci:LIST TO"],
        shows: &["manifest.list", "manifest.v2", "arm64", "diff.tar.gzip"],
    },
    Form {
        name: "hand index with an attestation",
        commands: &[
            "attest LIST",
            "skopeo copy -q --all --preserve-digests oci:LIST TO",
        ],
        shows: &["image.index", "attestation-manifest", "arm64", "tar+gzip"],
    },
];

/// Builds `localhost/oci:amd64`, `localhost/oci:arm64` and `localhost/docker:amd64` by buildah, and
/// lists of the first two, `localhost/list`, and of the last two, `localhost/mixed`.
pub(crate) fn build(place: &Place) {
    place.write("context/Dockerfile", DOCKERFILE);
    // Nothing is run: a small program makes the test quicker.
    let base = base::tar_of(b"not a program");
    fs::write(place.path("context/base.tar"), base).unwrap();
    for list in ["localhost/list", "localhost/mixed"] {
        place.buildah(&["manifest", "create", list]);
    }
    for (format, architecture, lists) in [
        ("oci", "amd64", &["localhost/list"][..]),
        ("oci", "arm64", &["localhost/list", "localhost/mixed"]),
        ("docker", "amd64", &["localhost/mixed"]),
    ] {
        place.write("context/arch", &format!("{format} {architecture}\n"));
        let platform = format!("linux/{architecture}");
        let name = format!("localhost/{format}:{architecture}");
        let build = ["build", "-q", "--layers", "--platform", &platform];
        let rest = ["--format", format, "-t", &name, "context"];
        place.buildah(&[&build[..], &rest].concat());
        for list in lists {
            let stored = format!("containers-storage:{name}");
            place.buildah(&["manifest", "add", list, &stored]);
        }
    }
}

/// Makes `form` as `made:1` at `registry`; [`build`] went before.
pub(crate) fn make(place: &Place, form: &Form, registry: &Registry) {
    let to = registry.transport("made:1");
    let slug = form.slug();
    let (list, directory) = (format!("{slug}.list"), format!("{slug}.dir"));
    if form.commands.concat().contains("LIST") {
        let layout = format!("oci:{}", place.text(&list));
        place.podman(&["manifest", "push", "-q", "--all", "localhost/list", &layout]);
    }
    for command in form.commands {
        // The names of temporary directories have any letters: what they could hold goes first.
        let command = command
            .replace("TO", &to)
            .replace("LIST", &place.text(&list))
            .replace("DIR", &place.text(&directory));
        let words: Vec<&str> = command.split(' ').collect();
        match words[0] {
            "podman" => drop(place.podman(&words[1..])),
            "attest" => attest(place, &list),
            program => drop(output(place.command(program, &words[1..]))),
        }
    }
    let mut shown = String::from_utf8(registry.manifest("made:1")).unwrap();
    let raw: Value = serde_json::from_str(&shown).unwrap();
    for part in raw["manifests"].as_array().into_iter().flatten() {
        let part = registry.manifest(&format!("made@{}", part["digest"].as_str().unwrap()));
        shown += str::from_utf8(&part).unwrap();
    }
    for word in form.shows {
        assert!(shown.contains(word), "{}: no {word} in {shown}", form.name);
    }
}

/// Adds to the index of the layout `list` what BuildKit adds: an attestation of its first image.
fn attest(place: &Place, list: &str) {
    let put = |value: &Value, media_type: &str| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes);
        fs::write(
            place.path(list).join("blobs/sha256").join(digest.hex()),
            &bytes,
        )
        .unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    };
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(place.path(list).join(path)).unwrap()).unwrap()
    };
    let top = read("index.json")["manifests"][0].clone();
    let hex = top["digest"].as_str().unwrap().replace("sha256:", "");
    let mut index = read(&format!("blobs/sha256/{hex}"));
    let subject = index["manifests"][0]["digest"].clone();

    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []});
    let mut statement = put(&statement, "application/vnd.in-toto+json");
    let diff_id = statement["digest"].clone();
    statement["annotations"] =
        json!({"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"});
    let config = json!({
        "architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(&config, "application/vnd.oci.image.config.v1+json"),
        "layers": [statement],
    });
    let mut entry = put(&manifest, "application/vnd.oci.image.manifest.v1+json");
    entry["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    entry["annotations"] = json!({
        "vnd.docker.reference.digest": subject,
        "vnd.docker.reference.type": "attestation-manifest",
    });
    index["manifests"].as_array_mut().unwrap().push(entry);
    let index = put(&index, "application/vnd.oci.image.index.v1+json");
    let layout = json!({"schemaVersion": 2, "manifests": [index]});
    place.write(&format!("{list}/index.json"), &layout.to_string());
}
