//! `build --cache-to` and `--cache-from`: what one store remembers serves another.

use std::fs;
use std::path::PathBuf;

use testkit::cli::{CommandLine, Served};

use crate::strata;
use crate::throttle::{Throttle, Way};

/// Two stages, of which the first is only read.
const COPIES: &str = "FROM BASE AS first\nCOPY a /a\nCOPY b /b\nFROM BASE\nWORKDIR /app\n\
    COPY --from=first /a /b /app/\nCOPY c .\nCMD [\"/app/a\"]\n";
/// The same with programs.
const RUNS: &str = "FROM BASE AS first\nCOPY a /a\nRUN cat /a > /made; echo first ran\n\
    FROM BASE\nRUN echo second ran > /second\nCOPY --from=first /made /made\nRUN echo third ran > /third\n";

/// A registry with a base image.
struct Place {
    /// Ends first.
    served: Served,
    server: CommandLine,
}

impl Place {
    fn new() -> Self {
        let server = strata();
        let served = server.serve(&["--allow-push"]);
        Self { served, server }
    }

    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.served.address())
    }

    fn push_small(self) -> Self {
        let source = strata();
        source.import_small(&self.name("base:1"));
        source
            .run(&["push", "-q", &self.name("base:1")])
            .succeeded();
        self
    }

    fn push_busybox(self) -> Self {
        let source = strata();
        source.import_busybox(&self.name("base:1"));
        source
            .run(&["push", "-q", &self.name("base:1")])
            .succeeded();
        self
    }

    /// Returns a command line with an empty store and a context.
    fn builder(&self, dockerfile: &str) -> CommandLine {
        let strata = strata();
        let base = self.name("base:1");
        strata.write("context/Dockerfile", dockerfile.replace("BASE", &base));
        for name in ["a", "b", "c"] {
            strata.write(&format!("context/{name}"), name);
        }
        strata
    }

    /// The file of a blob at the registry.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.server.path("root/blobs/sha256").join(hex)
    }
}

/// Builds; returns the id of the image and what was told.
fn build(strata: &CommandLine, flags: &[&str]) -> (String, String) {
    let mut words = vec!["build", "--network", "none", "--iidfile", "iid"];
    words.extend(flags);
    words.push("context");
    let outcome = strata.run(&words);
    assert_eq!(outcome.code, 0, "{outcome}");
    let id = fs::read_to_string(strata.work("iid")).expect("it was written");
    (id, outcome.stderr)
}

fn cached(told: &str) -> usize {
    told.matches(" CACHED\n").count()
}

/// How many layers a store has.
fn layers(strata: &CommandLine) -> usize {
    fs::read_dir(strata.path("root/layers")).map_or(0, Iterator::count)
}

fn to(name: &str, rest: &str) -> String {
    format!("--cache-to=type=registry,ref={name}{rest}")
}

fn from(name: &str) -> String {
    format!("--cache-from={name}")
}

/// Reads the cache manifest of a layout in `directory`.
fn manifest(strata: &CommandLine, directory: &str) -> serde_json::Value {
    let read = |path: String| {
        let bytes = fs::read(strata.work(&path)).expect("a document");
        serde_json::from_slice::<serde_json::Value>(&bytes).expect("JSON")
    };
    let index = read(format!("{directory}/index.json"));
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let hex = digest.trim_start_matches("sha256:");
    read(format!("{directory}/blobs/sha256/{hex}"))
}

#[test]
fn an_empty_store_runs_no_step_and_fetches_only_what_the_result_needs() {
    let place = Place::new().push_small();
    let cache = place.name("cache:1");
    let first = place.builder(COPIES);
    let (id, told) = build(&first, &[&to(&cache, ",mode=max")]);
    assert_eq!(cached(&told), 0, "{told}");
    assert!(told.contains(" exporting cache to registry\n"), "{told}");
    assert!(
        told.contains(" writing cache image manifest sha256:"),
        "{told}"
    );
    let second = place.builder(COPIES);
    let (same, told) = build(&second, &[&from(&cache)]);
    assert_eq!(same, id);
    assert_eq!(cached(&told), 5, "{told}");
    let importing = format!(" importing cache manifest from {cache}\n");
    assert!(told.contains(&importing), "{told}");
    // The base, and three of the result; the two of the first stage are not needed.
    assert_eq!(layers(&second), 4, "{told}");
    // Nothing is fetched again.
    let (again, told) = build(&second, &[&from(&cache)]);
    assert_eq!((again, cached(&told)), (id, 5), "{told}");
    assert!(!told.contains("fetching cached layers"), "{told}");
    assert_eq!(layers(&second), 4);
}

#[test]
fn what_a_changed_step_reads_is_fetched() {
    let place = Place::new().push_small();
    let cache = place.name("cache:1");
    build(&place.builder(COPIES), &[&to(&cache, ",mode=max")]);
    let second = place.builder(COPIES);
    second.write("context/b", "other");
    let (_, told) = build(&second, &[&from(&cache)]);
    // COPY a and WORKDIR; the rest reads or follows what changed.
    assert_eq!(cached(&told), 2, "{told}");
    let image = build(&place.builder(&COPIES.replace("COPY b", "COPY c")), &[]).0;
    assert!(!image.is_empty());
}

#[test]
fn the_smallest_cache_knows_the_other_stages_and_has_the_layers_of_the_result() {
    let place = Place::new().push_small();
    let (id, _) = build(
        &place.builder(COPIES),
        &[
            &to(&place.name("cache:min"), ""),
            "--cache-to=type=local,dest=min",
        ],
    );
    let second = place.builder(COPIES);
    let from = from(&place.name("cache:min"));
    let (same, told) = build(&second, &[&from]);
    assert_eq!((same, cached(&told)), (id, 5), "{told}");
    assert_eq!(layers(&second), 4);
    // The layers of the first stage are nowhere: when one of them is needed, it is made.
    let third = place.builder(COPIES);
    third.write("context/b", "other");
    let (_, told) = build(&third, &[&from]);
    assert_eq!(cached(&told), 1, "{told}");
}

#[test]
fn a_directory_holds_a_cache_in_the_form_of_a_layout() {
    let place = Place::new().push_small();
    let first = place.builder(COPIES);
    let (id, told) = build(
        &first,
        &[
            "--cache-to=type=local,dest=all,mode=max,tag=x",
            "--cache-to=type=local,dest=small",
        ],
    );
    assert!(
        told.contains(" exporting cache to client directory\n"),
        "{told}"
    );
    let all = manifest(&first, "all");
    let kind = "application/vnd.buildkit.cacheconfig.v0";
    assert_eq!(all["config"]["mediaType"], kind);
    assert_eq!(all["layers"].as_array().map(Vec::len), Some(5));
    let small = manifest(&first, "small");
    assert_eq!(small["layers"].as_array().map(Vec::len), Some(3));

    let second = place.builder(COPIES);
    let source = format!("type=local,src={},tag=x", first.work("all").display());
    let (same, told) = build(&second, &[&format!("--cache-from={source}")]);
    assert_eq!((same, cached(&told)), (id.clone(), 5), "{told}");
    let source = format!("type=local,src={}", first.work("all").display());
    let (same, told) = build(&place.builder(COPIES), &[&format!("--cache-from={source}")]);
    assert_eq!(cached(&told), 0, "{told}");
    assert!(
        told.contains("ERROR: failed to configure local cache importer: "),
        "{told}"
    );
    assert_ne!(same, "");

    // Everything was a hit: what is exported again is the same.
    let again = build(&first, &["--cache-to=type=local,dest=again,mode=max,tag=x"]);
    assert_eq!(again.0, id);
    let index = |name: &str| fs::read(first.work(&format!("{name}/index.json"))).expect("there");
    assert_eq!(index("again"), index("all"));
    // So is what a store exports that fetched only what it needed.
    build(
        &second,
        &[
            &format!("--cache-from={source},tag=x"),
            "--cache-to=type=local,dest=again,mode=max,tag=x",
        ],
    );
    let hop = manifest(&second, "again");
    assert_eq!(hop["layers"], all["layers"]);
}

#[test]
fn a_cache_that_is_not_there_is_told_of_and_left() {
    let place = Place::new().push_small();
    let missing = place.name("nothing:here");
    let strata = place.builder(COPIES);
    let nowhere = "--cache-from=127.0.0.1:9/none";
    let (_, told) = build(&strata, &[&from(&missing), nowhere]);
    let expected = format!(" importing cache manifest from {missing}\n");
    assert!(told.contains(&expected), "{told}");
    assert!(
        told.contains(" ERROR: failed to configure registry cache importer: "),
        "{told}"
    );
    assert_eq!(cached(&told), 0, "{told}");
    // An image without a cache, and what is no image.
    let (_, told) = build(
        &strata,
        &[&from(&place.name("base:1")), "--no-cache-filter=first"],
    );
    assert!(told.contains("the image carries no cache"), "{told}");
}

#[test]
fn an_export_that_fails_ends_the_build_unless_it_may() {
    let place = Place::new().push_small();
    let strata = place.builder(COPIES);
    let target = "type=registry,ref=127.0.0.1:9/none";
    let outcome = strata.run(&["build", "--cache-to", target, "context"]);
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(
        outcome
            .stderr
            .contains("ERROR: failed to build: failed to solve: "),
        "{outcome}"
    );
    let target = format!("{target},ignore-error=true");
    build(&strata, &["--cache-to", &target]);
    // A registry that takes nothing.
    let server = self::strata();
    let served = server.serve(&[]);
    let target = format!("{}/cache", served.address());
    let outcome = strata.run(&["build", "--cache-to", &target, "context"]);
    assert_eq!(outcome.code, 1, "{outcome}");
    let outcome = strata.run(&["build", "--cache-to", "type=gha", "context"]);
    assert!(
        outcome.stderr.contains("\"gha\" is not supported"),
        "{outcome}"
    );
}

#[test]
fn a_damaged_layer_is_made_again() {
    let place = Place::new().push_small();
    let cache = place.name("cache:1");
    let first = place.builder(COPIES);
    build(&first, &[&to(&cache, ""), "--cache-to=type=local,dest=out"]);
    let layers = manifest(&first, "out");
    let layers = layers["layers"].as_array().expect("a list").clone();
    let digest = layers[1]["digest"].as_str().expect("a digest");
    let length = fs::metadata(place.blob(digest)).expect("a blob").len();
    let length = usize::try_from(length).expect("short");
    fs::write(place.blob(digest), vec![b'x'; length]).expect("writable");
    let second = place.builder(COPIES);
    let (_, told) = build(&second, &[&from(&cache)]);
    // WORKDIR is there; COPY --from is made, with the stage that it reads; COPY c follows it.
    assert!(told.contains(" fetching cached layers from "), "{told}");
    assert_eq!(cached(&told), 1, "{told}");
    let found = second.run(&["build", "-q", "--network", "none", "context"]);
    found.succeeded();
}

#[test]
fn a_document_that_cannot_be_is_refused() {
    let place = Place::new().push_small();
    let first = place.builder(COPIES);
    build(&first, &["--cache-to=type=local,dest=out"]);
    let digest = manifest(&first, "out")["config"]["digest"].clone();
    let hex = digest
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:");
    let path = first.work(&format!("out/blobs/sha256/{hex}"));
    let text = fs::read_to_string(&path).expect("JSON");
    fs::write(&path, text.replace("strata.v1", "strata.v2")).expect("writable");
    let source = format!("type=local,src={}", first.work("out").display());
    let second = place.builder(COPIES);
    let (_, told) = build(&second, &[&format!("--cache-from={source}")]);
    assert!(
        told.contains("ERROR: failed to configure local cache importer: "),
        "{told}"
    );
    assert!(told.contains(" digest is sha256:"), "{told}");
    assert_eq!(cached(&told), 0, "{told}");
}

#[test]
fn an_image_carries_its_cache_through_a_registry() {
    let place = Place::new().push_small();
    let name = place.name("app:1");
    let first = place.builder(COPIES);
    let (plain, _) = build(&first, &[]);
    let (id, _) = build(
        &first,
        &["--cache-to", "type=inline", "-t", &name, "--push"],
    );
    assert_ne!(id, plain);
    let second = place.builder(COPIES);
    let (same, told) = build(&second, &[&from(&name), "--cache-to=type=inline"]);
    assert_eq!(same, id);
    assert_eq!(cached(&told), 5, "{told}");
    assert_eq!(layers(&second), 4);
    // Without it the image is what it always was, also on one that has it.
    let (without, _) = build(&second, &[&from(&name)]);
    assert_eq!(without, plain);
    second.write("on/Dockerfile", format!("FROM {name}\nLABEL a=b\n"));
    second.run(&["build", "-t", "on", "on"]).succeeded();
    let saved = second.run(&["save", "-o", "on.tar", "on"]);
    saved.succeeded();
    let tar = fs::read(second.work("on.tar")).expect("an archive");
    let mark = b"strata.cache";
    assert!(!tar.windows(mark.len()).any(|bytes| bytes == mark));
}

#[test]
fn a_build_without_cache_takes_none_from_elsewhere() {
    let place = Place::new().push_small();
    let cache = place.name("cache:1");
    build(&place.builder(COPIES), &[&to(&cache, ",mode=max")]);
    let (_, told) = build(&place.builder(COPIES), &[&from(&cache), "--no-cache"]);
    assert_eq!(cached(&told), 0, "{told}");
    let flags = [&from(&cache), "--no-cache-filter=first"];
    let (_, told) = build(&place.builder(COPIES), &flags);
    // The copies give the same files, so what follows is there.
    assert_eq!(cached(&told), 3, "{told}");
}

#[test]
fn the_other_forms_of_a_cache_are_read_too() {
    let place = Place::new().push_small();
    let first = place.builder(COPIES);
    for (tag, rest) in [
        ("index", ",image-manifest=false"),
        ("docker", ",oci-mediatypes=false"),
        ("zstd", ",compression=zstd,force-compression=true"),
        (
            "plain",
            ",compression=uncompressed,force-compression=true,mode=max",
        ),
    ] {
        let cache = place.name(&format!("cache:{tag}"));
        let (id, _) = build(&first, &[&to(&cache, rest)]);
        let (same, told) = build(&place.builder(COPIES), &[&from(&cache)]);
        assert_eq!((same, cached(&told)), (id, 5), "{tag}: {told}");
    }
}

#[test]
fn several_caches_serve_one_build() {
    let place = Place::new().push_small();
    let (one, two) = (place.name("cache:one"), place.name("cache:two"));
    let half = COPIES.replace("COPY c .\n", "");
    build(&place.builder(&half), &[&to(&one, ",mode=max")]);
    let (id, _) = build(&place.builder(COPIES), &[&from(&one), &to(&two, "")]);
    let second = place.builder(COPIES);
    let (same, told) = build(&second, &[&from(&one), &from(&two)]);
    assert_eq!((same, cached(&told)), (id, 5), "{told}");
}

#[test]
fn privileged_programs_are_not_run_again() {
    let place = Place::new().push_busybox();
    for (tag, mode) in [("min", ""), ("max", ",mode=max")] {
        let cache = place.name(&format!("cache:{tag}"));
        let (id, told) = build(&place.builder(RUNS), &[&to(&cache, mode)]);
        assert!(told.contains("first ran"), "{told}");
        let second = place.builder(RUNS);
        let (same, told) = build(&second, &[&from(&cache), "-t", "app"]);
        assert_eq!(same, id);
        assert_eq!(cached(&told), 5, "{told}");
        let shown = second.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "app",
            "cat",
            "/made",
            "/third",
        ]);
        assert_eq!(shown.stdout(), "athird ran\n");
    }
}

#[test]
fn privileged_secrets_and_cache_mounts_do_not_leave_the_machine() {
    let place = Place::new().push_busybox();
    let strata = place.builder(
        "FROM BASE\nRUN --mount=type=secret,id=s --mount=type=cache,target=/cache \
            cat /run/secrets/s > /cache/kept; echo done > /done\n",
    );
    strata.write("secret", "hush-hush-hush");
    let flags = [
        "--secret=id=s,src=secret",
        "--cache-to=type=local,dest=out,mode=max,compression=uncompressed,force-compression=true",
    ];
    build(&strata, &flags);
    for entry in fs::read_dir(strata.work("out/blobs/sha256")).expect("blobs") {
        let bytes = fs::read(entry.expect("a blob").path()).expect("readable");
        let secret = b"hush-hush-hush";
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        let name = b"kept";
        assert!(!bytes.windows(name.len()).any(|window| window == name));
    }
}

#[test]
fn a_killed_build_goes_on_from_what_had_come_of_the_cache() {
    const LAYER: usize = 8 << 20;
    const ALLOWED: u64 = 4 << 20;
    let place = Place::new().push_small();
    let text = "FROM scratch\nCOPY noise /\n";
    let noise = testkit::random::Random::new(3).bytes(LAYER);
    let builder = || {
        let strata = place.builder(text);
        strata.write("context/noise", &noise);
        strata
    };
    let (id, _) = build(&builder(), &[&to(&place.name("cache:1"), "")]);
    let throttle = Throttle::new(place.served.address(), Way::ToClient, ALLOWED);
    let strata = builder();
    let cache = from(&format!("{}/cache:1", throttle.address));
    let words = ["build", &cache, "context"];
    let mut command = strata.command(&words);
    let command = command.stdin(std::process::Stdio::null());
    let command = command.stdout(std::process::Stdio::null());
    let child = command.stderr(std::process::Stdio::null()).spawn();
    let kept = crate::resume::kill_after(&strata, child.expect("it starts"), ALLOWED / 2);
    throttle.allow(u64::MAX / 2);
    let before = throttle.passed();
    let (same, told) = build(&strata, &[&cache]);
    assert_eq!((same, cached(&told)), (id, 1), "{told}");
    let fetched = throttle.passed() - before;
    let size = u64::try_from(LAYER).expect("a length");
    assert!(
        fetched < size - kept + (256 << 10),
        "{fetched}, kept {kept}"
    );
}
