//! `system fsck`: what is damaged is found, and put right where a source exists.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::cli::{CommandLine, Outcome};

use crate::strata;

/// Changes one bit in the middle of a file, or where `position` says.
pub(crate) fn flip(path: &Path, position: Option<usize>) {
    let mut bytes = fs::read(path).expect("the file is there");
    let position = position.unwrap_or(bytes.len() / 2);
    bytes[position] ^= 1;
    fs::write(path, bytes).expect("written");
}

/// All that does not change with the time.
pub(crate) const FORMAT: &str =
    "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.CreatedAt}} {{.Size}}";

fn check(strata: &CommandLine, flags: &[&str]) -> Outcome {
    let mut words = vec!["system", "fsck"];
    words.extend(flags);
    strata.run(&words)
}

#[track_caller]
fn is_clean(strata: &CommandLine, after: &str) {
    for flags in [&[][..], &["--full"], &["--repair"]] {
        let outcome = check(strata, flags);
        let is_clean = outcome.code == 0 && outcome.stdout.ends_with("No damage\n");
        assert!(is_clean, "after {after}, {flags:?}: {outcome}");
    }
}

/// The only layer of the store.
fn layer(strata: &CommandLine) -> PathBuf {
    only(&strata.path("root/layers"))
}

fn only(directory: &Path) -> PathBuf {
    let mut entries = fs::read_dir(directory).expect("a directory");
    let entry = entries.next().expect("an entry").expect("an entry").path();
    assert!(entries.next().is_none(), "{}", directory.display());
    entry
}

fn blob(strata: &CommandLine, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    strata.path("root/blobs/sha256").join(hex)
}

#[test]
fn a_store_is_clean_whatever_was_done_to_it() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/demo:1", served.address());
    let strata = strata();
    let run = |words: &[&str]| {
        strata.run(words).succeeded();
        is_clean(&strata, &words.join(" "));
    };
    is_clean(&strata, "nothing");
    strata.import_small(&name);
    is_clean(&strata, "import");
    run(&["push", &name]);
    run(&["save", "-o", "saved.tar", &name]);
    run(&["rmi", &name]);
    run(&["pull", &name]);
    run(&["create", "--name", "web", &name, "/bin/none"]);
    run(&["commit", "web", "demo:2"]);
    run(&["rm", "web"]);
    strata.write("Dockerfile", format!("FROM {name}\nCOPY Dockerfile /\n"));
    run(&["build", "-t", "demo:3", "."]);
    let mut prune = strata.command(&["image", "prune", "-af"]);
    let pruned = prune.env("STRATA_UNDO_WINDOW", "1h").output();
    assert!(pruned.expect("it runs").status.success());
    is_clean(&strata, "a prune that can be undone");
    run(&["undo"]);
    run(&["load", "-i", "saved.tar"]);
    run(&["image", "prune", "-af"]);
    run(&["builder", "prune", "-af"]);
    is_clean(&server, "serving");
}

/// A store with an image that it has pulled, and the names of its files.
struct Pulled {
    strata: CommandLine,
    name: String,
    manifest: PathBuf,
    config: PathBuf,
    compressed: PathBuf,
    tar: PathBuf,
    index: PathBuf,
}

fn pull(strata: CommandLine, name: &str) -> Pulled {
    strata.run(&["pull", name]).succeeded();
    let digest = "{{(index .RepoDigests 0)}}";
    let digest = strata.run(&["inspect", "-f", digest, name]).stdout();
    let manifest = digest
        .trim()
        .split_once('@')
        .expect("a digest")
        .1
        .to_owned();
    let id = strata.run(&["inspect", "-f", "{{.Id}}", name]).stdout();
    let manifest = blob(&strata, &manifest);
    let config = blob(&strata, id.trim());
    let blobs = fs::read_dir(strata.path("root/blobs/sha256")).expect("a directory");
    let compressed = blobs
        .map(|entry| entry.expect("an entry").path())
        .find(|path| *path != manifest && *path != config);
    let layer = layer(&strata);
    Pulled {
        name: name.to_owned(),
        compressed: compressed.expect("a compressed layer"),
        tar: layer.join("tar"),
        index: layer.join("index.erofs"),
        manifest,
        config,
        strata,
    }
}

#[test]
fn what_changed_is_fetched_again_or_derived() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/demo:1", served.address());
    let maker = strata();
    maker.import_small(&name);
    maker.run(&["push", "-q", &name]).succeeded();
    let pulled = pull(strata(), &name);
    let strata = &pulled.strata;
    let images = || {
        strata
            .run(&["images", "--no-trunc", "--digests", "--format", FORMAT])
            .stdout()
    };
    let before = images();
    for (path, what, how) in [
        (&pulled.manifest, "manifest of an image", "fetched from"),
        (&pulled.config, "configuration of an image", "fetched from"),
        (
            &pulled.tar,
            "tar of a layer",
            "made again from its compressed form",
        ),
        (&pulled.index, "index of a layer", "made again from its tar"),
        (
            &pulled.compressed,
            "compressed layer",
            "dropped: its layer is here",
        ),
    ] {
        let whole = fs::read(path).expect("there");
        let longer = [&whole[..], b"x"].concat();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (state, bytes) in [
            ("flipped", Some(flipped)),
            ("too long", Some(longer)),
            ("gone", None),
        ] {
            let case = format!("{what}, {state}");
            if !path.exists() {
                // What was dropped before comes with the next pull of an image that is not here.
                assert!(strata.settle());
                strata.run(&["rmi", &name]).succeeded();
                assert!(strata.settle());
                strata.run(&["pull", "-q", &name]).succeeded();
                assert!(path.exists(), "{case}");
            }
            match &bytes {
                Some(bytes) => fs::write(path, bytes).expect("written"),
                None => fs::remove_file(path).expect("removed"),
            }
            let found = check(strata, &["--full"]);
            assert_eq!(found.code, 1, "{case}: {found}");
            assert!(
                found.stdout.contains(&format!("Damaged: {what} ")),
                "{case}: {found}"
            );
            assert!(
                found.stdout.contains(&path.display().to_string()),
                "{case}: {found}"
            );
            assert!(found.stdout.contains(&name), "{case}: {found}");
            let repaired = check(strata, &["--full", "--repair"]);
            assert_eq!(repaired.code, 0, "{case}: {repaired}");
            assert!(repaired.stdout.contains(how), "{case}: {repaired}");
            if *path != pulled.compressed {
                assert_eq!(fs::read(path).expect("there"), whole, "{case}");
            }
            is_clean(strata, &case);
            assert_eq!(images(), before, "{case}");
        }
    }
    // Even with the compressed form gone the push gives the same digest.
    let pushed = strata.run(&["push", &pulled.name]).stdout();
    let digest = pulled.manifest.file_name().expect("a name");
    assert!(pushed.contains(digest.to_str().expect("hex")), "{pushed}");
}

#[test]
fn a_tar_without_another_copy_here_comes_from_the_registry() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/demo:1", served.address());
    let maker = strata();
    maker.import_small(&name);
    maker.run(&["push", "-q", &name]).succeeded();
    let pulled = pull(strata(), &name);
    let whole = fs::read(&pulled.tar).expect("there");
    flip(&pulled.tar, None);
    fs::remove_file(&pulled.compressed).expect("removed");
    let repaired = check(&pulled.strata, &["--full", "--repair"]);
    assert_eq!(repaired.code, 0, "{repaired}");
    let from = format!("fetched from {}/demo", served.address());
    assert!(repaired.stdout.contains(&from), "{repaired}");
    assert_eq!(fs::read(&pulled.tar).expect("there"), whole);
    is_clean(&pulled.strata, "the repair");
}

#[test]
fn without_a_source_the_images_and_containers_are_named() {
    let strata = strata();
    strata.import_small("demo:1");
    strata.run(&["tag", "demo:1", "other:2"]).succeeded();
    strata
        .run(&["create", "--name", "web", "demo:1", "/none"])
        .succeeded();
    let tar = layer(&strata).join("tar");
    flip(&tar, None);
    let quick = check(&strata, &[]);
    assert_eq!(quick.code, 0, "a quick check reads no layers: {quick}");
    let expected = format!(
        "Damaged: tar of a layer has changed
    file: {}
    images: demo:1, other:2
    containers: web
",
        tar.display()
    );
    let found = check(&strata, &["--full"]);
    assert!(found.stdout.starts_with(&expected), "{found}");
    assert!(
        found.stdout.ends_with("Damage found: 1, left: 1\n"),
        "{found}"
    );
    let damaged = fs::read(&tar).expect("there");
    let left = check(&strata, &["--full", "--repair"]);
    assert_eq!(left.code, 1, "{left}");
    assert!(left.stdout.starts_with(&expected), "{left}");
    assert!(
        left.stdout
            .contains("what to do: build, load or pull demo:1 again"),
        "{left}"
    );
    let kept = only(&strata.path("root/damaged"));
    assert_eq!(
        fs::read(&kept).expect("kept"),
        damaged,
        "nothing is deleted"
    );
    assert!(left.stdout.contains(&kept.display().to_string()), "{left}");
    let again = check(&strata, &[]);
    assert_eq!(again.code, 1, "{again}");
    assert!(
        again.stdout.contains("tar of a layer is missing"),
        "{again}"
    );
    // The same content brings the layer back.
    strata.import_small("again:1");
    is_clean(&strata, "the import");
}

#[test]
fn what_no_record_names_is_no_damage() {
    let strata = strata();
    strata.import_small("demo:1");
    // What the command left to the background would free it.
    assert!(strata.settle());
    let stray = strata.path("root/blobs/sha256").join("0".repeat(64));
    fs::write(&stray, [0; 5000]).expect("written");
    fs::write(strata.path("root/ingest/left.new"), "x").expect("written");
    let found = check(&strata, &["--full"]);
    assert_eq!(found.code, 0, "{found}");
    let note = "Note: 1 file or layer (8.192kB) that no record names; 'strata image prune' frees";
    assert!(found.stdout.contains(note), "{found}");
    strata.run(&["image", "prune", "-f"]).succeeded();
    is_clean(&strata, "the prune");
    assert!(!stray.exists());
}

#[test]
fn beside_other_commands_nothing_is_found() {
    const ROUNDS: usize = 12;
    let strata = strata();
    strata.import_small("demo:1");
    let at_work = AtomicUsize::new(3);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (strata, at_work) = (&strata, &at_work);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let name = format!("w{worker}:{round}");
                    let tar = vec![0; 1024 * (1 + worker + 3 * round)];
                    strata.run_with(&["import", "-", &name], &tar).succeeded();
                    strata
                        .run(&["tag", &name, &format!("w{worker}:kept")])
                        .succeeded();
                    let container = format!("c{worker}-{round}");
                    let words = ["create", "--name", &container, &name, "/none"];
                    strata.run(&words).succeeded();
                    strata.run(&["rm", &container]).succeeded();
                    strata.run(&["rmi", &name]).succeeded();
                    strata.run(&["image", "prune", "-f"]).succeeded();
                }
                at_work.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut checks = 0;
        while at_work.load(Ordering::Relaxed) > 0 || checks == 0 {
            for flags in [&[][..], &["--full"], &["--repair"]] {
                let outcome = check(&strata, flags);
                assert!(
                    outcome.stdout.ends_with("No damage\n"),
                    "{flags:?}: {outcome}"
                );
                checks += 1;
            }
        }
    });
    is_clean(&strata, "the crowd");
}

#[test]
fn directories_that_others_may_enter_are_closed() {
    let strata = strata();
    strata.import_small("demo:1");
    for name in ["root", "root/layers", "run"] {
        let path = strata.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        let found = check(&strata, &[]);
        assert_eq!(found.code, 1, "{name}: {found}");
        assert!(
            found.stdout.contains("mode 0755, which lets others in"),
            "{found}"
        );
        check(&strata, &["--repair"]).succeeded();
        let mode = fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    fs::remove_dir_all(strata.path("root/context")).expect("removed");
    assert_eq!(check(&strata, &[]).code, 1);
    check(&strata, &["--repair"]).succeeded();
    is_clean(&strata, "the repair");
}

#[test]
fn privileged_an_unpacked_layer_is_compared_and_made_again() {
    let strata = strata().variable("STRATA_LAYER_FORM", "tree");
    strata.import_busybox("demo:1");
    strata.run(&["run", "--rm", "demo:1", "true"]).succeeded();
    is_clean(&strata, "a run");
    let tree = layer(&strata).join("tree");
    let passwd = tree.join("etc/passwd");
    flip(&passwd, None);
    let found = check(&strata, &["--full"]);
    assert_eq!(found.code, 1, "{found}");
    let what = "unpacked layer: `etc/passwd` has another content";
    assert!(
        found.stdout.contains(what) || found.stdout.contains("another time"),
        "{found}"
    );
    check(&strata, &["--full", "--repair"]).succeeded();
    is_clean(&strata, "the repair");
    strata.run(&["run", "--rm", "demo:1", "true"]).succeeded();
}

#[test]
fn json_has_a_member_for_all_that_the_text_says() {
    let strata = strata();
    strata.import_small("demo:1");
    let tar = layer(&strata).join("tar");
    flip(&tar, None);
    let found = check(&strata, &["--full", "--format", "json"]);
    assert_eq!(found.code, 1);
    let value: serde_json::Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!(value["Sound"], false);
    assert_eq!(value["Depth"], "full");
    let finding = &value["Findings"][0];
    assert_eq!(finding["Kind"], "tar");
    assert_eq!(finding["State"], "found");
    assert_eq!(finding["Images"], serde_json::json!(["demo:1"]));
    assert_eq!(finding["Path"], tar.display().to_string());
    let format = "{{.Sound}} {{.Layers}} {{len .Findings}}";
    let found = check(&strata, &["--full", "--format", format]);
    assert_eq!(found.stdout, "false 1 1\n");
}
