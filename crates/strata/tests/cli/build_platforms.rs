//! `build --platform` with several platforms.

use std::fs;

use testkit::cli::CommandLine;

use crate::strata;

const BOTH: &str = "--platform=linux/amd64,linux/arm64";

/// A stage of this machine, and a result for each platform.
const TEXT: &str = "FROM --platform=$BUILDPLATFORM base:1 AS build\nCOPY shared /shared\n\
    ARG TARGETARCH\nCOPY $TARGETARCH /own\nFROM scratch\nCOPY --from=build /shared /own /\nLABEL a=b\n";

fn builder(text: &str) -> CommandLine {
    let strata = strata();
    strata.import_small("base:1");
    strata.write("context/Dockerfile", text);
    for name in ["shared", "amd64", "arm64"] {
        strata.write(&format!("context/{name}"), name);
    }
    strata
}

fn build(strata: &CommandLine, flags: &[&str]) -> String {
    let mut words = vec!["build", "--network", "none"];
    words.extend(flags);
    words.push("context");
    let outcome = strata.run(&words);
    assert_eq!(outcome.code, 0, "{outcome}");
    outcome.stderr
}

fn json(strata: &CommandLine, file: &str) -> serde_json::Value {
    let bytes = fs::read(strata.work(file)).expect("a file");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn several_platforms_make_an_index_under_one_tag() {
    let strata = builder(TEXT);
    let told = build(
        &strata,
        &[BOTH, "-t", "app:1", "--iidfile=iid", "--metadata-file=meta"],
    );
    for expected in [
        "[linux/amd64 internal] load metadata for docker.io/library/base:1\n",
        "[linux/amd64 build 1/3] FROM docker.io/library/base:1\n",
        "[linux/amd64 build 2/3] COPY shared /shared\n",
        "[linux/amd64 build 3/3] COPY amd64 /own\n",
        "[linux/amd64->arm64 build 3/3] COPY arm64 /own\n",
        "[linux/arm64 stage-1 1/1] COPY --from=build /shared /own /\n",
        " naming to docker.io/library/app:1 done\n",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    // What is the same for both is one step.
    assert!(!told.contains("[linux/amd64->arm64 build 2/3]"), "{told}");
    let digest = fs::read_to_string(strata.work("iid")).expect("it was written");
    let told_of = format!(" exporting manifest list {digest}");
    assert!(told.contains(&told_of), "{told}");
    let metadata = json(&strata, "meta");
    assert_eq!(metadata["containerimage.digest"], digest.as_str());
    assert_eq!(
        metadata["containerimage.descriptor"]["digest"],
        digest.as_str()
    );
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");
    let shown = strata.run(&["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(shown.stdout(), "app:1\nbase:1\n");

    // Nothing changed: the same index, and no step is made.
    let again = build(&strata, &[BOTH, "-t", "app:1", "--iidfile=again"]);
    assert_eq!(again.matches(" CACHED\n").count(), 5, "{again}");
    let same = fs::read_to_string(strata.work("again")).expect("it was written");
    assert_eq!(same, digest);

    // What is pushed is that index, and what is saved.
    let server = self::strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/app:1", served.address());
    build(
        &strata,
        &[BOTH, "-t", &name, "--push", "--metadata-file=pushed"],
    );
    assert_eq!(
        json(&strata, "pushed")["containerimage.digest"],
        digest.as_str()
    );
    let other = self::strata();
    let pulled = other
        .run(&["pull", "--platform", "linux/arm64", &name])
        .stdout();
    assert!(pulled.contains(&format!("Digest: {digest}\n")), "{pulled}");
    build(
        &strata,
        &[BOTH, "-t", "app:1", "-o", "type=oci,dest=app.tar"],
    );
    let copied = strata.run(&["copy", "-q", "oci-archive:app.tar", "oci:layout"]);
    assert_eq!(copied.stdout(), format!("{digest}\n"));
}

#[test]
fn the_image_for_each_platform_has_its_own_files() {
    let strata = builder(TEXT);
    build(&strata, &[BOTH, "-o", "out", "-o", "type=tar,dest=out.tar"]);
    for architecture in ["amd64", "arm64"] {
        let read = |name: &str| fs::read_to_string(strata.work(&format!("out/linux_{name}")));
        let own = read(&format!("{architecture}/own")).expect("a file");
        assert_eq!(own, architecture);
        let shared = read(&format!("{architecture}/shared")).expect("a file");
        assert_eq!(shared, "shared");
    }
    let tar = fs::File::open(strata.work("out.tar")).expect("a tar");
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("entries");
    let names: Vec<String> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            String::from_utf8_lossy(&entry.path_bytes()).into_owned()
        })
        .collect();
    let expected = [
        "linux_amd64/",
        "linux_amd64/own",
        "linux_amd64/shared",
        "linux_arm64/",
        "linux_arm64/own",
        "linux_arm64/shared",
    ];
    assert_eq!(names, expected);
    // One platform has a directory of its own only when that is wanted.
    let arm = "--platform=linux/arm64";
    build(&strata, &[arm, "-o", "one"]);
    assert!(strata.work("one/own").exists());
    build(
        &strata,
        &[arm, "-o", "type=local,dest=split,platform-split=true"],
    );
    assert!(strata.work("split/linux_arm64/own").exists());
    // Only files were wanted.
    let shown = strata.run(&["images", "-aq"]).stdout();
    assert_eq!(shown.lines().count(), 1, "{shown}");
}

#[test]
fn a_platform_that_is_named_twice_is_built_once() {
    let strata = builder(TEXT);
    let told = build(
        &strata,
        &[
            "--platform=linux/arm64",
            "--platform",
            "linux/arm64",
            "-t",
            "app",
        ],
    );
    assert!(told.contains("[build 3/3] COPY arm64 /own\n"), "{told}");
    assert!(!told.contains("manifest list"), "{told}");
    let platform = strata.run(&["inspect", "-f", "{{.Architecture}}", "app"]);
    assert_eq!(platform.stdout(), "arm64\n");
}

#[test]
fn what_an_index_cannot_be_is_an_error() {
    let strata = builder(TEXT);
    for (flags, expected) in [
        (
            &["-t", "app", "-o", "type=docker,dest=x.tar"][..],
            "docker exporter does not support exporting manifest lists, use the oci exporter instead",
        ),
        (&["-o", "type=oci,dest=x.tar"], "give one with --tag"),
        (
            &["-o", "type=local,dest=x,platform-split=false"],
            "platform-split=false is not supported",
        ),
        (&["--platform", "a/b/c/d"], "a/b/c/d"),
    ] {
        let mut words = vec!["build", BOTH];
        words.extend(flags);
        words.push("context");
        let outcome = strata.run(&words);
        assert_eq!(outcome.code, 1, "{outcome}");
        assert!(outcome.stderr.contains(expected), "{outcome}");
    }
}

#[test]
fn a_program_of_another_platform_needs_an_emulator() {
    let strata = builder("FROM scratch\nARG TARGETARCH\nCOPY shared /\nRUN [\"/shared\"]\n");
    let flags = ["build", "--platform=linux/amd64,linux/mips64", "context"];
    let outcome = strata.run(&flags);
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(
        outcome.stderr.contains("RUN for linux/mips64 needs an emulator: no handler for programs of linux/mips64 is registered in /proc/sys/fs/binfmt_misc (such as qemu-mips64, with flag F)"),
        "{outcome}"
    );
    assert!(
        outcome.stderr.contains(">>> RUN [\"/shared\"]\n"),
        "{outcome}"
    );
    // Nothing was made before that.
    assert!(!outcome.stderr.contains("1/2] COPY shared"), "{outcome}");
    let layers = fs::read_dir(strata.path("root/layers")).map_or(0, Iterator::count);
    assert_eq!(layers, 1, "only the base image's");
}

#[test]
fn a_cache_serves_all_platforms() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = |path: &str| format!("{}/{path}", served.address());
    let source = strata();
    source.import_small(&name("base:1"));
    source.run(&["push", "-q", &name("base:1")]).succeeded();
    let text = TEXT.replace("base:1", &name("base:1"));
    let cache = name("cache:1");
    let to = format!("--cache-to=type=registry,ref={cache}");
    let inline = name("app:inline");
    let first = builder(&text);
    build(&first, &[BOTH, &to, "--iidfile=iid", "-t", "app"]);
    build(
        &first,
        &[BOTH, "--cache-to=type=inline", "--push", "-t", &inline],
    );
    let id = fs::read_to_string(first.work("iid")).expect("it was written");
    for from in [&cache, &inline] {
        let second = builder(&text);
        let from = format!("--cache-from={from}");
        let told = build(&second, &[BOTH, &from, "--iidfile=iid", "-t", "app"]);
        assert_eq!(told.matches(" CACHED\n").count(), 5, "{told}");
        let same = fs::read_to_string(second.work("iid")).expect("it was written");
        assert_eq!(same, id);
    }
}

#[test]
fn a_base_image_of_several_platforms_keeps_its_tag_for_this_machine() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/team/base:both", served.address());
    crate::platforms::push_both(&strata(), &format!("{}/team/base", served.address()));
    let text = format!("FROM {name}\nARG TARGETARCH\nCOPY $TARGETARCH /own\n");
    let strata = builder(&text);
    for flags in [&[][..], &[], &["--pull"]] {
        let mut words = vec![BOTH, "-t", "app", "-o", "out", "--load", "--iidfile=iid"];
        words.extend(flags);
        build(&strata, &words);
        for architecture in ["amd64", "arm64"] {
            let read = |file: &str| {
                let path = format!("out/linux_{architecture}/{file}");
                fs::read_to_string(strata.work(&path)).expect("a file")
            };
            assert_eq!(read("own"), architecture);
            assert_eq!(read("platform"), format!("linux/{architecture}"));
        }
        let platform = strata.run(&["inspect", "-f", "{{.Architecture}}", &name]);
        assert_eq!(platform.stdout(), "amd64\n");
    }
    // One platform that is not this machine's takes no tag away either.
    build(&strata, &["--platform=linux/arm64", "-t", "arm"]);
    let platform = strata.run(&["inspect", "-f", "{{.Architecture}}", &name]);
    assert_eq!(platform.stdout(), "amd64\n");
    let platform = strata.run(&["inspect", "-f", "{{.Architecture}}", "arm"]);
    assert_eq!(platform.stdout(), "arm64\n");
}
