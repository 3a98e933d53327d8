//! Contexts with a name: `--build-context`.

use std::fs;
use std::path::PathBuf;

use build::{BuildOptions, Built, Event, NamedContext, context_name};
use oci::Reference;
use store::Pick;

use crate::bench::{Bench, entry};

/// Makes a directory beside the context.
fn directory(bench: &Bench, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = bench.context().with_file_name(name);
    for (file, content) in files {
        let file = path.join(file);
        fs::create_dir_all(file.parent().expect("inside")).expect("a directory");
        fs::write(file, content).expect("a file");
    }
    path
}

fn options(bench: &Bench, dockerfile: &str, contexts: &[(&str, NamedContext)]) -> BuildOptions {
    let name = |name| context_name(name).expect("a name");
    let named = contexts
        .iter()
        .map(|(text, context)| (name(text), context.clone()));
    BuildOptions {
        contexts: named.collect(),
        ..bench.options(dockerfile)
    }
}

fn build(bench: &Bench, options: &BuildOptions) -> (Built, Vec<String>) {
    let (built, events) = bench.run(options);
    let name = |event| match event {
        Event::StepStarted { name, .. } => Some(name),
        _ => None,
    };
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    (built, events.into_iter().filter_map(name).collect())
}

#[test]
fn a_directory_is_read_by_its_name() {
    let bench = Bench::new();
    bench.write("a", "build context\n");
    let files = [
        ("a", "one\n"),
        ("hidden", "x"),
        (".dockerignore", "hidden\n"),
        ("d/b", "2"),
    ];
    let other = directory(&bench, "other", &files);
    let unused = directory(&bench, "unused", &[("x", "x")]);
    let contexts = [
        ("other", NamedContext::Directory(other.clone())),
        ("unused", NamedContext::Directory(unused)),
    ];
    let text = "FROM scratch\nCOPY a /main\nCOPY --from=other . /o/";
    let (built, steps) = build(&bench, &options(&bench, text, &contexts));
    assert_eq!(
        bench.files(&built, "main"),
        ["f 644 0:0 main \"build context\\n\""]
    );
    let lines = bench.files(&built, "o");
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(
        lines.contains(&"f 644 0:0 o/a \"one\\n\"".to_owned()),
        "{lines:?}"
    );
    for step in [
        "[context other] load .dockerignore",
        "[context other] load from client",
    ] {
        assert!(steps.iter().any(|it| it == step), "{steps:?}");
    }
    assert!(!steps.iter().any(|it| it.contains("unused")), "{steps:?}");

    let (again, _) = build(&bench, &options(&bench, text, &contexts));
    assert_eq!((again.id, again.executed), (built.id, 0));
    fs::write(other.join("a"), "changed\n").expect("a file");
    let (changed, _) = build(&bench, &options(&bench, text, &contexts));
    assert_eq!(changed.executed, 1);
    assert!(bench.files(&changed, "o").concat().contains("changed"));
}

#[test]
fn a_stage_can_start_from_a_directory() {
    let bench = Bench::new();
    let root = directory(&bench, "root", &[("etc/motd", "hello\n")]);
    let contexts = [("base", NamedContext::Directory(root))];
    let text = "FROM base AS start\nENV A=1\nFROM start\nCOPY --from=base etc/motd /copy";
    let (built, steps) = build(&bench, &options(&bench, text, &contexts));
    assert_eq!(
        bench.files(&built, "etc/motd"),
        ["f 644 0:0 etc/motd \"hello\\n\""]
    );
    assert_eq!(bench.files(&built, "copy"), ["f 644 0:0 copy \"hello\\n\""]);
    assert!(
        steps.contains(&"[start 1/1] FROM base".to_owned()),
        "{steps:?}"
    );
    let config = bench.config(&built);
    assert_eq!(config.rootfs.diff_ids.len(), 2);
    assert_eq!(config.history[0].created_by, "FROM base # context");
}

#[test]
fn a_context_goes_before_the_stage_and_the_image_of_its_name() {
    let mut bench = Bench::new();
    let file = |name: &str| {
        let kind = layer::EntryKind::File { size: 0 };
        vec![(entry(name, kind, 0o644), Vec::new())]
    };
    for (image, name) in [
        ("old", "old"),
        ("new:1", "new"),
        ("/l Name(\"v1\")", "layout"),
    ] {
        match image.starts_with('/') {
            false => bench.image(image, &file(name), |_| {}),
            true => bench.layout(image, &file(name)),
        }
    }
    let image = |name| Reference::parse(name).expect("a name").or_latest();
    let directory = directory(&bench, "stage", &[("dir", "")]);
    let text = "FROM old AS tools\nCOPY nothing /\nFROM scratch\n\
                COPY --from=tools . /\nCOPY --from=docker.io/library/old:latest . /\n";
    for (contexts, expected) in [
        (
            vec![("old", NamedContext::Image(image("new:1")))],
            ["new"].as_slice(),
        ),
        (
            vec![(
                "old",
                NamedContext::Layout("/l".into(), Pick::Name("v1".into())),
            )],
            &["layout"],
        ),
        (
            vec![("tools", NamedContext::Directory(directory.clone()))],
            &["dir", "old"],
        ),
        (vec![("old", NamedContext::Scratch)], &[]),
        // A name with a tag is another one.
        (
            vec![("old:2", NamedContext::Image(image("new:1")))],
            &["old"],
        ),
    ] {
        bench.write("nothing/.keep", "");
        let (built, _) = build(&bench, &options(&bench, text, &contexts));
        let lines = bench.files(&built, "");
        for name in ["old", "new", "layout", "dir"] {
            let has = lines.iter().any(|line| line.contains(&format!(" {name} ")));
            assert_eq!(
                has,
                expected.contains(&name),
                "{contexts:?}: {name} in {lines:?}"
            );
        }
    }
}

#[test]
fn names_of_contexts_are_those_of_images() {
    for (text, expected) in [
        ("base", Some("base")),
        ("base:latest", Some("base")),
        ("docker.io/library/base", Some("base")),
        ("base:1", Some("base:1")),
        ("ghcr.io/a/b", Some("ghcr.io/a/b")),
        ("Upper", None),
        ("a b", None),
    ] {
        assert_eq!(context_name(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn privileged_mounts_read_contexts_too() {
    let bench = Bench::with_busybox();
    let path = directory(&bench, "other", &[("tool", "t\n"), ("seed/x", "s\n")]);
    let contexts = [("other", NamedContext::Directory(path))];
    let text = "FROM base\n\
        RUN --mount=from=other,target=/o,rw cat /o/tool > /1 && echo > /o/new\n\
        RUN --mount=type=cache,target=/c,from=other,source=seed cat /c/x > /2\n";
    let (built, _) = build(&bench, &options(&bench, text, &contexts));
    assert_eq!(bench.files(&built, "1"), ["f 644 0:0 1 \"t\\n\""]);
    assert_eq!(bench.files(&built, "2"), ["f 644 0:0 2 \"s\\n\""]);
    assert!(!bench.context().with_file_name("other").join("new").exists());
}
