//! Graphs and configurations of whole Dockerfiles, as tables.

use std::collections::BTreeMap;

use oci::{DiffId, Digest, History, ImageConfig, ImageId, Platform, Reference};

use super::*;
use crate::BaseImage;
use crate::plan::{PlanOptions, plan};
use crate::vertex::{FilesFrom, Item, Operation, Origin};

/// An image with one layer that is named after it.
fn image(name: &str) -> BaseImage {
    let mut config = ImageConfig::scratch(&"linux/amd64".parse().expect("valid"));
    config.config.env = vec!["PATH=/bin".to_owned(), "BASE=1".to_owned()];
    config.config.cmd = Some(vec!["sh".to_owned()]);
    config.rootfs.diff_ids = vec![DiffId(Digest::of(name.as_bytes()))];
    config.history = vec![History {
        created_by: format!("made {name}"),
        created: Some("2020-01-01T00:00:00Z".to_owned()),
        ..History::default()
    }];
    if name == "docker.io/library/onbuild:latest" {
        config.config.on_build = ["COPY . /src", "RUN make"].map(str::to_owned).to_vec();
    }
    BaseImage {
        id: ImageId(Digest::of(&config.to_bytes())),
        config,
    }
}

fn graph_of(
    text: &str,
    build_args: &[(&str, &str)],
    target: Option<&str>,
) -> Result<Graph, String> {
    let args: BTreeMap<String, String> = build_args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let platform: Platform = "linux/amd64".parse().expect("valid");
    let dockerfile = dockerfile::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let options = PlanOptions {
        target,
        build_args: &args,
        contexts: &BTreeMap::new(),
        platform: &platform,
        build_platform: &platform,
    };
    let plan = plan(&dockerfile, &options).map_err(|located| {
        let line = located.span.map_or(0, |span| span.start);
        format!("{line}: {}", located.error)
    })?;
    let mut images = |reference: &Reference, _: &Platform| Ok(image(&reference.to_string()));
    lower(&plan, &args, &mut images).map_err(|located| {
        let line = located.span.map_or(0, |span| span.start);
        format!("{line}: {}", located.error)
    })
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Layers(layers) if layers.is_empty() => "scratch".to_owned(),
        Origin::Layers(layers) => format!("{} layers", layers.len()),
        Origin::Vertex(index) => format!("#{index}"),
    }
}

/// A graph as text: a line for each vertex, then the history of the result.
fn render(graph: &Graph) -> String {
    let mut lines = graph.bases.clone();
    for (index, vertex) in graph.vertices.iter().enumerate() {
        let operation = match &vertex.operation {
            Operation::Run(step) => format!("run {:?} in {}", step.args, step.cwd),
            Operation::Workdir(step) => format!("workdir {} {}", step.path, step.user),
            Operation::Files(files) => {
                let from = match &files.from {
                    FilesFrom::Context(_) => "context".to_owned(),
                    FilesFrom::Origin(from) => origin(from),
                };
                let items: Vec<String> = files
                    .items
                    .iter()
                    .map(|item| match item {
                        Item::Path(path) => path.clone(),
                        Item::Below { base, pattern } => format!("{base}/./{pattern}"),
                        Item::Url(url) => url.clone(),
                        Item::Git(source) => format!("git {source}"),
                        Item::Inline { name, content } => format!("<<{name} {content:?}"),
                    })
                    .collect();
                let to = &files.destination;
                format!("files {from} {items:?} to {} {:?}", to.path, to.form)
            }
        };
        lines.push(format!(
            "#{index} on {}: {operation} = {}",
            origin(&vertex.origin),
            vertex.name
        ));
    }
    lines.push(format!("result {}", origin(&graph.result.origin)));
    for entry in &graph.result.history {
        let entry = entry.entry(None);
        let mark = if entry.empty_layer { '-' } else { '+' };
        lines.push(format!("{mark} {}", entry.created_by));
    }
    lines.join("\n")
}

fn check(text: &str, build_args: &[(&str, &str)], expected: &str) {
    let graph = graph_of(text, build_args, None).expect("lowers");
    let expected: Vec<&str> = expected.lines().map(str::trim).collect();
    assert_eq!(render(&graph), expected.join("\n").trim(), "{text}");
}

#[test]
fn instructions_become_vertices_and_history_as_in_buildkit() {
    check(
        "FROM debian AS x\nENV LANG=C A=1\nWORKDIR app\nCOPY package.json .\nRUN echo $A\n\
         ARG V=2\nRUN [\"/bin/sh\", \"-c\", \"ls\"]\nCMD [\"hello\"]",
        &[],
        r#"[1/5] FROM docker.io/library/debian:latest
        #0 on 1 layers: workdir /app  = [2/5] WORKDIR app
        #1 on #0: files context ["/package.json"] to /app Directory = [3/5] COPY package.json .
        #2 on #1: run ["/bin/sh", "-c", "echo $A"] in /app = [4/5] RUN echo 1
        #3 on #2: run ["/bin/sh", "-c", "ls"] in /app = [5/5] RUN ["/bin/sh", "-c", "ls"]
        result #3
        + made docker.io/library/debian:latest
        - ENV LANG=C A=1
        + WORKDIR /app
        + COPY package.json . # buildkit
        + RUN /bin/sh -c echo $A # buildkit
        - ARG V=2
        + RUN |1 V=2 /bin/sh -c ls # buildkit
        - CMD ["hello"]"#,
    );
}

#[test]
fn stages_are_found_by_name_and_number_and_unused_ones_skipped() {
    check(
        "ARG TAG=12\nFROM debian:$TAG AS build\nRUN a\nFROM nothing\nRUN never\nFROM build AS child\nRUN b\n\
         FROM scratch\nCOPY --from=build /a /a\nCOPY --from=2 --chown=1:2 --chmod=755 /b /b/",
        &[("TAG", "13")],
        r#"[build 1/2] FROM docker.io/library/debian:13
        #0 on 1 layers: run ["/bin/sh", "-c", "a"] in  = [build 2/2] RUN a
        #1 on scratch: files #0 ["/a"] to /a Any = [stage-3 1/2] COPY --from=build /a /a
        #2 on #0: run ["/bin/sh", "-c", "b"] in  = [child 1/1] RUN b
        #3 on #1: files #2 ["/b"] to /b Directory = [stage-3 2/2] COPY --from=2 --chown=1:2 --chmod=755 /b /b/
        result #3
        + COPY /a /a # buildkit
        + COPY --chown=1:2 --chmod=755 /b /b/ # buildkit"#,
    );
}

#[test]
fn identical_vertices_are_one() {
    let graph = graph_of(
        "FROM debian AS a\nRUN x\nFROM debian AS b\nRUN x\nRUN y\nFROM a\nCOPY --from=b / /",
        &[],
        None,
    )
    .expect("lowers");
    assert_eq!(graph.vertices.len(), 3, "{}", render(&graph));
}

#[test]
fn triggers_of_the_base_run_first() {
    check(
        "FROM onbuild\nRUN own",
        &[],
        r#"[1/4] FROM docker.io/library/onbuild:latest
        #0 on 1 layers: files context ["/"] to /src Any = [2/4] ONBUILD COPY . /src
        #1 on #0: run ["/bin/sh", "-c", "make"] in  = [3/4] ONBUILD RUN make
        #2 on #1: run ["/bin/sh", "-c", "own"] in  = [4/4] RUN own
        result #2
        + made docker.io/library/onbuild:latest
        + COPY . /src # buildkit
        + RUN /bin/sh -c make # buildkit
        + RUN /bin/sh -c own # buildkit"#,
    );
}

#[test]
fn arguments_have_scopes() {
    let lower = |text: &str, args: &[(&str, &str)]| graph_of(text, args, None).expect("lowers");
    let env_of_last = |graph: &Graph| match &graph.vertices.last().expect("a vertex").operation {
        Operation::Run(step) => step.env.clone(),
        _ => Vec::new(),
    };
    let text = "ARG G=global\nFROM debian\nARG G\nARG TARGETARCH\nARG D=default\nARG N\nRUN x";
    for (args, expected) in [
        (&[][..], ["G=global", "TARGETARCH=amd64", "D=default"]),
        (
            &[("G", "g"), ("D", "d"), ("U", "u")],
            ["G=g", "TARGETARCH=amd64", "D=d"],
        ),
    ] {
        let env = env_of_last(&lower(text, args));
        assert_eq!(env, [&["PATH=/bin", "BASE=1"], &expected[..]].concat());
    }
    let undeclared = lower(
        "ARG G=global\nFROM debian\nRUN x",
        &[("G", "g"), ("X", "x")],
    );
    assert_eq!(env_of_last(&undeclared), ["PATH=/bin", "BASE=1"]);
    let inherited = lower("FROM debian AS a\nARG A=1\nFROM a\nRUN x", &[]);
    assert!(env_of_last(&inherited).contains(&"A=1".to_owned()));
}

#[test]
fn configurations_follow_docker() {
    let config = |text: &str| {
        graph_of(text, &[], None)
            .expect("lowers")
            .result
            .config
            .config
    };
    let words = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    let entrypoint = config("FROM debian\nENTRYPOINT [\"e\"]");
    assert_eq!(
        (entrypoint.entrypoint, entrypoint.cmd),
        (words(&["e"]), None)
    );
    let both = config("FROM debian\nCMD [\"c\"]\nENTRYPOINT [\"e\"]");
    assert_eq!(both.cmd, words(&["c"]));
    for (written, kept) in [
        ("/a/./b/../c//d/", "/a/./b/../c//d/"),
        ("e/../f/", "/f"),
        ("/", "/"),
    ] {
        let config = config(&format!("FROM debian\nWORKDIR {written}"));
        assert_eq!(config.working_dir, kept);
    }
    let scratch = config("FROM scratch\nUSER me\nVOLUME /a /b\nEXPOSE 80 53/udp");
    assert_eq!(scratch.working_dir, "/");
    assert_eq!(scratch.env, [format!("PATH={}", runtime::DEFAULT_PATH)]);
    assert_eq!(scratch.user, "me");
    assert_eq!(Vec::from_iter(scratch.volumes.keys()), ["/a", "/b"]);
    assert_eq!(
        Vec::from_iter(scratch.exposed_ports.keys()),
        ["53/udp", "80/tcp"]
    );
    let triggers = config("FROM debian\nONBUILD RUN x\nONBUILD COPY . .");
    assert_eq!(triggers.on_build, ["RUN x", "COPY . ."]);
    let child = config("FROM debian AS a\nONBUILD ENV X=1\nFROM a");
    assert!(child.on_build.is_empty() && child.env.contains(&"X=1".to_owned()));
}

#[test]
fn what_is_written_stays_in_configuration_and_history() {
    let graph = graph_of(
        "FROM debian\nWORKDIR /a/./b/\nRUN x\nCOPY f .\nEXPOSE 1/tcp 1\nWORKDIR ../c/",
        &[],
        None,
    )
    .expect("lowers");
    let text = render(&graph);
    for line in [
        "workdir /a/b ",
        "run [\"/bin/sh\", \"-c\", \"x\"] in /a/b",
        "+ WORKDIR /a/./b/",
        "- EXPOSE [1/tcp 1/tcp]",
        "+ WORKDIR /a/c",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(graph.result.config.config.working_dir, "/a/c");
    let kept = graph_of("FROM debian AS a\nWORKDIR /b/\nFROM a", &[], None);
    let kept = kept.expect("lowers").result.config.config.working_dir;
    assert_eq!(kept, "/b/");
}

#[test]
fn errors_name_the_line_in_dockers_words() {
    for (text, target, expected) in [
        (
            "FROM a",
            Some("nope"),
            "0: target stage \"nope\" could not be found",
        ),
        ("FROM $X", None, "1: base name ($X) should not be blank"),
        (
            "FROM a\nCOPY --from=$V x y",
            None,
            "2: variable expansion is not supported for --from, define a new stage with FROM \
             using ARG from global scope as a workaround",
        ),
        (
            "FROM a\nCOPY --from=7 x y",
            None,
            "2: invalid stage index 7",
        ),
        (
            "FROM a AS one\nCOPY --from=two x y\nFROM a AS two\nCOPY --from=one x y",
            None,
            "2: cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
        ),
        (
            "FROM a\nCOPY --chmod=9 x y",
            None,
            "2: invalid chmod parameter: '9'. it should be octal string and between 0 and 07777",
        ),
        ("FROM a\nSTOPSIGNAL NOPE", None, "2: invalid signal: NOPE"),
        (
            "FROM a\nCOPY http://x/y z",
            None,
            "2: source can't be a URL for COPY",
        ),
        (
            "FROM A!",
            None,
            "1: failed to parse stage name \"A!\": invalid reference format: repository name \
             (library/A!) must be lowercase",
        ),
        (
            "FROM a AS Stage\nFROM Stage",
            None,
            "2: failed to parse stage name \"Stage\": invalid reference format: repository name \
             (library/Stage) must be lowercase",
        ),
    ] {
        assert_eq!(
            graph_of(text, &[], target).map(|graph| render(&graph)),
            Err(expected.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn history_explains_exactly_the_layers_of_the_base() {
    let platform: Platform = "linux/amd64".parse().expect("valid");
    for (entries, layers, expected) in [(1, 3, 3), (3, 1, 1), (0, 2, 2)] {
        let text = "FROM debian\nRUN x";
        let dockerfile = dockerfile::parse(text.as_bytes()).expect("parses");
        let args = BTreeMap::new();
        let options = PlanOptions {
            target: None,
            build_args: &args,
            contexts: &BTreeMap::new(),
            platform: &platform,
            build_platform: &platform,
        };
        let plan = plan(&dockerfile, &options).expect("plans");
        let mut images = |_: &Reference, _: &Platform| {
            let mut image = image("a");
            image.config.history = vec![History::default(); entries];
            image.config.rootfs.diff_ids = vec![DiffId(Digest::of(b"a")); layers];
            Ok(image)
        };
        let graph = lower(&plan, &args, &mut images).expect("lowers");
        let history = graph.result.history.iter();
        let with_layer = history
            .filter(|entry| !entry.entry(None).empty_layer)
            .count();
        assert_eq!(with_layer, expected + 1);
    }
}

/// The environment of a stage's image is what the next stage sees, whatever hid it meanwhile.
#[test]
fn an_argument_hides_the_environment_in_its_own_stage_only() {
    let text = "FROM debian AS a\nENV V=env\nARG V=arg\nARG ONLY=1\nFROM a\nLABEL v=$V o=$ONLY\n\
        ENV W=$V\nRUN x";
    let graph = graph_of(text, &[("V", "given")], None).expect("lowers");
    let config = &graph.result.config.config;
    assert_eq!(config.labels["v"], "env");
    assert_eq!(config.labels["o"], "1");
    assert!(config.env.contains(&"W=env".to_owned()));
    let Operation::Run(step) = &graph.vertices[0].operation else {
        panic!("a RUN");
    };
    assert!(step.env.contains(&"V=env".to_owned()), "{:?}", step.env);
    let hidden = graph_of(&text.replace("FROM a\n", ""), &[], None).expect("lowers");
    assert_eq!(hidden.result.config.config.labels["v"], "arg");
}
