//! What is taken from the cache, and what is not.

use std::fs::{self, File};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, SystemTime};

use build::{Built, CacheUse, Event};
use layer::EntryKind;
use store::Timestamp;

use crate::bench::{Bench, entry};

fn bench() -> Bench {
    let mut bench = Bench::new();
    let root = (entry("etc", EntryKind::Directory, 0o755), Vec::new());
    bench.image("base", &[root], |_| {});
    bench.write("a", "a");
    bench.write("dir/b", "b");
    bench
}

const TEXT: &str = "FROM base\nWORKDIR /w\nCOPY a .\nENV X=1\nCOPY dir dir/\nCMD [\"x\"]";

#[test]
fn the_cache_can_be_ignored_for_a_stage() {
    let bench = Bench::new();
    bench.write("f", "f");
    let text = "FROM scratch AS one\nCOPY f /1\nFROM scratch AS two\nCOPY f /2\n\
        FROM scratch\nCOPY --from=one / /\nCOPY --from=two / /\n";
    assert_eq!(bench.build(text).executed, 4);
    let mut options = bench.options(text);
    options.uncached_stages = vec!["TWO".to_owned(), "nope".to_owned()];
    let built = bench.run(&options).0.expect("builds");
    // The same layer came of it, so what follows is there.
    assert_eq!((built.executed, built.cached), (1, 3));
}

#[test]
fn a_context_of_many_directories_is_read_whole_and_in_order() {
    let bench = Bench::new();
    let mut expected = Vec::new();
    for outer in 0..30 {
        for inner in ["a", "a-b", "c"] {
            let path = format!("many/{outer:02}/{inner}/file");
            bench.write(&path, &path);
            expected.push(format!("f 644 0:0 {path} {path:?}"));
        }
    }
    let text = "FROM scratch\nCOPY many many";
    let built = bench.build(text);
    let mut files = bench.files(&built, "many");
    files.retain(|line| line.starts_with('f'));
    expected.sort();
    files.sort();
    assert_eq!(files, expected);
    assert_eq!(bench.build(text).executed, 0);
    bench.write("many/17/a-b/file", "changed");
    assert_eq!(bench.build(text).executed, 1);
}

#[test]
fn nothing_changed_is_all_cached_and_the_same_image() {
    let bench = bench();
    let first = bench.build(TEXT);
    assert_eq!((first.executed, first.cached), (3, 0));
    let second = bench.build(TEXT);
    assert_eq!((second.executed, second.cached), (0, 3));
    assert_eq!(second.id, first.id);
    let steps = second.report.as_array().expect("a list");
    assert_eq!(steps.len(), 3);
    assert_eq!(steps[1]["name"], "[3/4] COPY a .");
    assert_eq!(steps[1]["line"], 3);
    let key = steps[1]["key"]
        .as_str()
        .expect("a key")
        .parse()
        .expect("a key");
    let record = bench.store.step(&key).expect("readable").expect("recorded");
    assert_eq!(record.instruction, "COPY a . # buildkit");
    assert_eq!(record.ingredients["key"]["destination"], "/w");
}

#[test]
fn times_do_not_count_and_content_and_mode_do() {
    let bench = bench();
    let first = bench.build(TEXT);
    let file = File::options()
        .write(true)
        .open(bench.context().join("a"))
        .expect("a file");
    let later = SystemTime::now() + Duration::from_secs(100);
    file.set_modified(later).expect("a time");
    let touched = bench.build(TEXT);
    assert_eq!((touched.executed, touched.cached), (0, 3));
    assert_eq!(touched.id, first.id);
    bench.chmod("dir/b", 0o755);
    let changed = bench.build(TEXT);
    assert_eq!((changed.executed, changed.cached), (1, 2));
    bench.write("a", "A");
    let changed = bench.build(TEXT);
    assert_eq!((changed.executed, changed.cached), (2, 1));
    assert_eq!(bench.files(&changed, "w/a"), ["f 644 0:0 w/a \"A\""]);
    bench.write("unrelated", "x");
    assert_eq!(bench.build(TEXT).executed, 0);
}

#[test]
fn a_file_that_keeps_size_and_time_is_still_read_again() {
    let bench = bench();
    bench.build(TEXT);
    let path = bench.context().join("a");
    let before = std::fs::metadata(&path)
        .and_then(|m| m.modified())
        .expect("a time");
    for content in ["1", "2", "3"] {
        bench.write("a", content);
        let file = File::options().write(true).open(&path).expect("a file");
        file.set_modified(before).expect("a time");
        let built = bench.build(TEXT);
        assert_eq!(
            bench.files(&built, "w/a"),
            [format!("f 644 0:0 w/a {content:?}")]
        );
    }
}

#[test]
fn a_damaged_stat_cache_is_ignored() {
    let bench = bench();
    let first = bench.build(TEXT);
    let path = bench.store.stat_cache_path(&bench.context());
    std::fs::write(&path, b"damaged").expect("writable");
    assert_eq!(bench.build(TEXT).id, first.id);
}

#[test]
fn no_cache_makes_the_same_layers_again() {
    let bench = bench();
    let first = bench.build(TEXT);
    let mut options = bench.options(TEXT);
    options.cache = CacheUse::Ignore;
    let (again, _) = bench.run(&options);
    let again = again.expect("builds");
    assert_eq!((again.executed, again.cached), (3, 0));
    assert_eq!(again.id, first.id);
}

#[test]
fn what_follows_a_step_with_the_same_result_stays_cached() {
    let bench = bench();
    let text = |name: &str| {
        format!("FROM base AS {name}\nCOPY {name} /x\nFROM base\nCOPY --from=0 /x /y\nWORKDIR /z")
    };
    bench.write("one", "same");
    bench.write("two", "same");
    bench.write("three", "other");
    bench.build(&text("one"));
    assert_eq!(
        bench.build(&text("two")).executed,
        1,
        "the stage is another, its file is not"
    );
    assert_eq!(bench.build(&text("three")).executed, 3);
}

#[test]
fn links_do_not_depend_on_what_is_below() {
    let bench = bench();
    let text = |first: &str| format!("FROM base\n{first}\nCOPY --link a /x/\n");
    bench.build(&text("WORKDIR /one"));
    assert_eq!(bench.build(&text("WORKDIR /two")).executed, 1);
}

#[test]
fn steps_are_told_as_they_happen() {
    let bench = bench();
    let options = bench.options("FROM base\nCOPY a /\nCOPY dir /");
    let names = |events: &[Event]| -> Vec<String> {
        let mut names = Vec::new();
        for event in events {
            match event {
                Event::StepStarted { name, .. } => names.push(name.clone()),
                Event::StepCached { .. } => names.push("CACHED".to_owned()),
                _ => {}
            }
        }
        names
    };
    let (_, events) = bench.run(&options);
    assert_eq!(
        names(&events),
        [
            "[internal] load build definition from Dockerfile",
            "[internal] load metadata for docker.io/library/base:latest",
            "[internal] load .dockerignore",
            "[1/3] FROM docker.io/library/base:latest",
            "[internal] load build context",
            "[2/3] COPY a /",
            "[3/3] COPY dir /",
            "exporting to image",
        ]
    );
    let (_, events) = bench.run(&options);
    assert_eq!(
        names(&events)
            .iter()
            .filter(|name| *name == "CACHED")
            .count(),
        2
    );
    for event in &events {
        if let Event::StepStarted { step, .. } = event {
            let ends = events.iter().filter(|event| match event {
                Event::StepDone { step: end, .. }
                | Event::StepCached { step: end }
                | Event::StepFailed { step: end, .. } => end == step,
                _ => false,
            });
            assert_eq!(ends.count(), 1, "{step:?} ends once");
        }
    }
}

#[test]
fn the_epoch_clamps_times_and_is_an_ingredient_when_given() {
    let bench = bench();
    let mut options = bench.options(TEXT);
    options.epoch = Some(1_000_000_000);
    let (built, _) = bench.run(&options);
    let built = built.expect("builds");
    let view = bench.view(&built);
    for path in ["w", "w/a", "w/dir/b"] {
        let node = view
            .lookup(path.as_bytes())
            .expect("readable")
            .expect("there");
        assert_eq!(node.entry.mtime.seconds, 1_000_000_000, "{path}");
    }
    assert_eq!(
        bench.config(&built).created.as_deref(),
        Some("2001-09-09T01:46:40Z")
    );
    assert_eq!(bench.build(TEXT).executed, 3);
}

#[test]
fn builds_at_the_same_time_agree() {
    let bench = bench();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| bench.build(TEXT).id))
            .collect();
        builds
            .into_iter()
            .map(|build| build.join().expect("builds"))
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    let tag = oci::Reference::parse("result").expect("valid").or_latest();
    assert_eq!(bench.store.tagged(&tag).expect("readable"), Some(ids[0]));
}

/// The configuration says something old, so that a later build gives the same image.
#[test]
fn the_store_knows_when_steps_ran() {
    let bench = bench();
    let before = Timestamp::now();
    let built = bench.build(TEXT);
    let image = bench.store.image(&built.id).expect("readable");
    let made = image.expect("there").created_at().expect("a time");
    assert!(made >= before && made <= Timestamp::now());
    let times = bench.store.image_times(&built.id).expect("readable");
    let [base, workdir, copy, env, copy_dir, cmd] = times.as_slice() else {
        panic!("{times:?}");
    };
    assert_eq!(*base, None);
    assert!(before <= workdir.expect("known") && workdir <= copy && copy <= copy_dir);
    assert_eq!((env, cmd), (copy, copy_dir));
    assert_eq!(*cmd, Some(made));
    // From the cache: as old as before. From scratch: new, and the same image.
    bench.build(TEXT);
    assert_eq!(bench.store.image_times(&built.id).expect("readable"), times);
    let mut options = bench.options(TEXT);
    options.cache = CacheUse::Ignore;
    let again = bench.run(&options).0.expect("built");
    assert_eq!(again.id, built.id);
    let times = bench.store.image_times(&built.id).expect("readable");
    assert!(times[1] > Some(made));
}

#[test]
fn a_base_built_here_keeps_its_times() {
    let mut bench = bench();
    let base = bench.build("FROM base\nCOPY a /\nENV A=1");
    bench.base("mine", &base);
    let built = bench.build("FROM mine\nCOPY dir /dir");
    let of_base = bench.store.image_times(&base.id).expect("readable");
    let times = bench.store.image_times(&built.id).expect("readable");
    assert_eq!(times[..3], of_base);
    assert!(of_base[1].is_some() && times[3] >= of_base[2]);
    // Only the configuration differs: the image is as old as its base.
    let built = bench.build("FROM mine\nENV B=1");
    let times = bench.store.image_times(&built.id).expect("readable");
    assert_eq!(times[..3], of_base);
}

/// So that two clones of a commit give the same image.
#[test]
fn files_of_a_clean_checkout_are_as_old_as_its_commit() {
    let bench = bench();
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        let git = git.arg("-C").arg(bench.context()).args(args);
        let output = git.env("GIT_COMMITTER_DATE", "1600000000 +0000").output();
        let output = output.expect("git runs");
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    let identity = ["-c", "user.name=A", "-c", "user.email=a@b"];
    git(&[&identity[..], &["commit", "-q", "-m", "all"]].concat());
    let time = |built: &build::Built| {
        let view = bench.view(built);
        let node = view.lookup_no_follow(b"w/dir/b").expect("readable");
        node.expect("there").entry.mtime.seconds
    };
    assert_eq!(time(&bench.build(TEXT)), 1_600_000_000);
    bench.write("a", "changed");
    let mut options = bench.options(TEXT);
    options.cache = CacheUse::Ignore;
    let dirty = bench.run(&options).0.expect("built");
    assert!(time(&dirty) > 1_600_000_000);
}

#[test]
fn privileged_builds_at_the_same_time_make_a_step_once() {
    let bench = Bench::with_busybox();
    let text = "FROM base\n\
        RUN --mount=type=cache,target=/c,id=runs echo x >> /c/runs; sleep 0.4; echo $RANDOM > /r\n\
        RUN echo y >> /r\n";
    let never = AtomicBool::new(false);
    let build = || {
        let built = bench.run_with(&bench.options(text), &never, &|_| {});
        built.expect("builds")
    };
    let built: Vec<Built> = thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        let joined = builds.into_iter().map(|build| build.join());
        joined.map(|built| built.expect("no panic")).collect()
    });
    let executed: usize = built.iter().map(|built| built.executed).sum();
    assert_eq!(executed, 2, "each step in one of the builds");
    assert!(built.iter().all(|it| it.id == built[0].id));
    let runs = bench.build("FROM base\nRUN --mount=type=cache,target=/c,id=runs cp /c/runs /runs");
    assert_eq!(bench.files(&runs, "runs"), ["f 644 0:0 runs \"x\\n\""]);
    let left = fs::read_dir(bench.store.ingest_dir()).expect("lists");
    assert_eq!(left.count(), 0);
}
