//! The same Dockerfile, built by buildah and by strata.

use serde_json::Value;
use testkit::flat::{self, Image};

use crate::place::Place;

/// Every instruction that a config or a file system can show, on `localhost/base:1`.
const DOCKERFILE: &str = r#"FROM localhost/base:1
LABEL maintainer="me" version="1.0" multi="a b"
ENV A=1 B="two words" PATH=/app/bin:$PATH
ARG WHO=world
WORKDIR /app
COPY package.json .
RUN echo "hello $WHO" > greeting && mkdir -p /state && chown 33:33 /state && rm /srv/told && ln greeting twin
COPY --chown=web:web src/ src/
ADD --chmod=0640 extra.txt /etc/
ADD packed.tar /opt/
EXPOSE 8080 9000/udp
VOLUME /state
USER web
STOPSIGNAL SIGINT
SHELL ["/bin/sh","-ec"]
HEALTHCHECK --interval=5s --timeout=1s --retries=2 CMD test -f /app/greeting
ONBUILD RUN echo later
ENTRYPOINT ["/bin/echo"]
CMD ["hello","there"]
"#;

const CONFIG_KEYS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "Shell",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
];

fn write_context(place: &Place) {
    place.write("context/Dockerfile", DOCKERFILE);
    place.write("context/package.json", "{\"name\": \"app\"}\n");
    place.write("context/extra.txt", "extra\n");
    place.write("context/src/a.txt", "a\n");
    place.write("context/src/sub/b.sh", "#!/bin/sh\necho b\n");
    let context = place.path("context");
    std::os::unix::fs::symlink("sub/b.sh", context.join("src/link")).unwrap();
    let mut packed = testkit::tarball::Tarball::new();
    packed
        .push(&testkit::tarball::Member::directory("packed"))
        .push(&testkit::tarball::Member::file("packed/file", b"packed\n"))
        .push(&testkit::tarball::Member::hardlink(
            "packed/twin",
            "packed/file",
        ));
    std::fs::write(context.join("packed.tar"), packed.finish()).unwrap();
}

fn build_ours(place: &Place) -> Image {
    let store = place.store_with_base("store");
    store.run(&["tag", "base:1", "localhost/base:1"]);
    let base = place.text("base.image");
    store.run(&["save", "-o", &base, "localhost/base:1"]);
    store.run(&["build", "-t", "localhost/app:1", "context"]);
    let saved = place.path("ours.tar");
    store.run(&["save", "-o", saved.to_str().unwrap(), "localhost/app:1"]);
    flat::read(&saved)
}

fn build_theirs(place: &Place) -> Image {
    let base = format!("docker-archive:{}", place.text("base.image"));
    place.buildah(&["pull", "--quiet", &base]);
    let flags = [
        "--isolation",
        "chroot",
        "--format",
        "docker",
        "--identity-label=false",
    ];
    let tag = [
        "--pull-never",
        "--network",
        "host",
        "-t",
        "localhost/app:1",
        "context",
    ];
    place.buildah(&[&["build", "--quiet"], &flags[..], &tag].concat());
    let saved = place.path("theirs.tar");
    let to = format!("docker-archive:{}", saved.display());
    place.buildah(&["push", "--quiet", "localhost/app:1", &to]);
    flat::read(&saved)
}

#[test]
fn privileged_a_build_gives_the_image_that_buildah_gives() {
    let place = Place::new();
    write_context(&place);
    let (ours, theirs) = (build_ours(&place), build_theirs(&place));
    for key in CONFIG_KEYS {
        assert_eq!(setting(&ours, key), setting(&theirs, key), "{key}");
    }
    assert_eq!(ours.config["architecture"], theirs.config["architecture"]);
    assert_eq!(ours.config["os"], theirs.config["os"]);
    assert_eq!(flat::differences(&ours, &theirs), [""; 0]);
    for path in ["app/greeting", "app/src/link", "opt/packed/twin"] {
        assert!(ours.files.contains_key(path), "{path}");
    }
    assert!(!ours.files.contains_key("srv/told"));
    assert!(ours.files["srv/capable"].has_xattr("security.capability"));
}

/// What is absent, null and empty means the same.
fn setting(image: &Image, key: &str) -> Option<Value> {
    let value = image.config["config"].get(key)?;
    let is_empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    (!is_empty).then(|| value.clone())
}
