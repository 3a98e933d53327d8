//! `reflog`, `undo`, and `NAME@{N}`.

use std::time::{Duration, Instant};

use testkit::cli::{CommandLine, redact};

use crate::strata;

/// Returns a command line whose removed images stay for an hour. Tests undo what they remove, or
/// a process would wait for it.
fn holding() -> CommandLine {
    strata().variable("STRATA_UNDO_WINDOW", "1h")
}

fn layers(strata: &CommandLine) -> usize {
    let layers = std::fs::read_dir(strata.path("root/layers"));
    layers.map_or(0, Iterator::count)
}

/// Imports another image under `name`; returns its id.
fn import_other(strata: &CommandLine, name: &str, change: &str) -> String {
    let outcome = strata.run_with(&["import", "-c", change, "-", name], &[0; 1024]);
    outcome.stdout().trim().to_owned()
}

#[test]
fn reflog_tells_what_a_tag_was_and_undo_goes_back() {
    let strata = holding();
    let first = strata.import_small("demo:1");
    let second = import_other(&strata, "demo:1", "ENV A=1");
    strata.run(&["tag", &first, "demo:2"]).succeeded();
    strata.run(&["rmi", "demo:1"]).succeeded();
    // The width of WHEN depends on the second.
    let reflog = || {
        let text = redact(&strata.run(&["reflog", "demo:1"]).stdout());
        let words = text.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.join(" ")
        });
        words.collect::<Vec<String>>()
    };
    assert_eq!(
        reflog(),
        [
            "NAME IMAGE ID WHEN COMMAND STATUS",
            "demo:1@{0} <none> <now> rmi demo:1 untagged",
            "demo:1@{1} SHORTSHORTID <now> import - demo:1 gone",
            "demo:1@{2} SHORTSHORTID <now> import - demo:1 here",
        ]
    );
    let ids = strata.run(&["image", "reflog", "-q", "--no-trunc", "demo:1"]);
    assert_eq!(ids.stdout(), format!("{second}\n{first}\n"));
    let lines = strata.run(&["reflog", "--format", "{{.Name}} {{.Kind}}"]);
    assert_eq!(
        lines.stdout(),
        "demo:1@{0} rmi\ndemo:2@{0} tag\ndemo:1@{1} import\ndemo:1@{2} import\n"
    );
    let json = strata
        .run(&["reflog", "--format", "json", "demo:2"])
        .stdout();
    assert!(json.contains("\"Name\":\"demo:2@{0}\""), "{json}");

    let planned = strata.run(&["undo", "--dry-run"]).stdout();
    let done = format!("Undone: rmi demo:1\nRestored: {second}\nTagged: demo:1\n");
    assert_eq!(planned, done.replace("Undone", "Would undo"));
    assert_eq!(strata.run(&["undo"]).stdout(), done);
    assert_eq!(
        reflog()[1],
        "demo:1@{0} SHORTSHORTID <now> undo: rmi demo:1 here"
    );
    assert_eq!(
        strata.run(&["undo"]).stdout(),
        "Undone: tag SHORT demo:2\nUntagged: demo:2\n".replace("SHORT", &first)
    );
    assert_eq!(
        strata.run(&["undo"]).stdout(),
        "Undone: import - demo:1\nTagged: demo:1\n"
    );
    let id = strata.run(&["images", "-q", "--no-trunc", "demo"]).stdout();
    assert_eq!(id, format!("{first}\n"));
    let list = redact(
        &strata
            .run(&["undo", "--list", "--format", "{{.ID}} {{.Status}}"])
            .stdout(),
    );
    assert_eq!(
        list,
        "7 undid 2\n6 undid 3\n5 undid 4\n4 undone by 5\n3 undone by 6\n2 undone by 7\n1 \n"
    );
}

#[test]
fn what_a_tag_was_can_be_named_wherever_an_image_is_that_is_here() {
    let strata = strata();
    let first = strata.import_small("localhost:5000/demo:1");
    import_other(&strata, "localhost:5000/demo:1", "ENV A=1");
    let past = "localhost:5000/demo:1@{1}";
    let inspected = strata.run(&["image", "inspect", "-f", "{{.Id}}", past]);
    assert_eq!(inspected.stdout(), format!("{first}\n"));
    let inspected = strata.run(&["inspect", "-f", "{{.Id}}", past]);
    assert_eq!(inspected.stdout(), format!("{first}\n"));
    strata.run(&["history", past]).succeeded();
    strata.run(&["save", "-o", "saved.tar", past]).succeeded();
    strata.run(&["create", past, "sh"]).succeeded();
    strata.run(&["tag", past, "back:1"]).succeeded();
    let id = strata.run(&["images", "-q", "--no-trunc", "back"]).stdout();
    assert_eq!(id, format!("{first}\n"));
    strata.run(&["rmi", "-f", past]).succeeded();
    for (words, expected) in [
        (
            vec!["history", past],
            "Error response from daemon: localhost:5000/demo:1@{1} was the image SHORTSHORTID, which was removed at ",
        ),
        (
            vec!["run", "localhost:5000/demo:1@{9}"],
            "docker: Error response from daemon: the history of localhost:5000/demo:1 has only 2 entries\n",
        ),
        (
            vec!["history", "demo@{x}"],
            "Error response from daemon: invalid entry of a name's history `demo@{x}`: expected NAME[:TAG]@{N}, as in `app:1@{1}`\n",
        ),
        (
            vec!["pull", past],
            "invalid reference format: localhost:5000/demo:1@{1} is from the history of this store's tags, and can only name an image that is here\n",
        ),
        (
            vec!["reflog", "localhost:5000/demo"],
            "localhost:5000/demo:latest has no history\nthese have: localhost:5000/demo:1\n",
        ),
    ] {
        let outcome = strata.run(&words);
        let stderr = redact(&outcome.stderr).replace("strata: ", "docker: ");
        assert!(stderr.starts_with(expected), "{words:?}: {stderr}");
        assert_ne!(outcome.code, 0);
    }
    strata.write("Dockerfile", "FROM localhost:5000/demo:1@{0}\n");
    let outcome = strata.run(&["build", "."]);
    let refused = "localhost:5000/demo:1@{0} is from the history of this store's tags";
    assert!(outcome.stderr.contains(refused), "{outcome}");
}

#[test]
fn without_a_window_nothing_waits_and_undo_tells_what_is_gone() {
    let strata = strata();
    strata.import_small("demo:1");
    let before = strata.run(&["images", "-a"]).stdout();
    strata.run(&["rmi", "demo:1"]).succeeded();
    strata.run(&["image", "prune", "-f"]).succeeded();
    assert_eq!(layers(&strata), 0);
    let outcome = strata.run(&["undo"]);
    let expected = "cannot undo `rmi demo:1`: what it removed is gone\ndemo:1 does not come back: image SHORTSHORTID has lost its layer sha256:<digest>\n";
    assert_eq!(redact(&outcome.stderr), expected);
    assert_eq!((outcome.stdout.as_str(), outcome.code), ("", 1));
    for (words, expected) in [
        (
            vec!["undo", "x"],
            "invalid operation `x`: expected a number that 'undo --list' shows\n",
        ),
        (
            vec!["undo", "9"],
            "no such operation: 9\n'undo --list' shows what there is\n",
        ),
    ] {
        assert_eq!(strata.run(&words).stderr, expected);
    }
    assert_ne!(strata.run(&["images", "-a"]).stdout(), before);
    let strata = strata.variable("STRATA_UNDO_WINDOW", "soon");
    let outcome = strata.run(&["images"]);
    let expected = "invalid STRATA_UNDO_WINDOW `soon`: expected seconds, or a duration as 5m\n";
    assert_eq!(outcome.stderr, expected);
}

#[test]
fn what_a_prune_removed_comes_back_and_is_freed_in_the_end() {
    let strata = holding();
    strata.import_small("demo:1");
    strata.run(&["tag", "demo:1", "demo:2"]).succeeded();
    import_other(&strata, "other:1", "ENV A=1");
    let images = || strata.run(&["images", "--digests", "--no-trunc"]).stdout();
    let before = images();
    let pruned = strata.run(&["image", "prune", "-af"]).stdout();
    let reclaimed = pruned.lines().last().expect("a line").to_owned();
    assert_ne!(reclaimed, "Total reclaimed space: 0B");
    assert_eq!(layers(&strata), 2);
    assert_eq!(
        strata.run(&["image", "prune", "-af"]).stdout(),
        "Total reclaimed space: 0B\n"
    );
    strata.run(&["undo"]).succeeded();
    assert_eq!(images(), before);

    // The process in the background frees it, without any other command.
    let strata = strata.variable("STRATA_UNDO_WINDOW", "1");
    let pruned = strata.run(&["image", "prune", "-af"]).stdout();
    assert_eq!(pruned.lines().last(), Some(reclaimed.as_str()));
    let deadline = Instant::now() + Duration::from_secs(30);
    while layers(&strata) > 0 {
        assert!(Instant::now() < deadline, "nothing was freed");
        std::thread::yield_now();
    }
}

#[test]
fn an_undo_that_would_overwrite_names_the_command_in_its_way() {
    let strata = strata();
    strata.import_small("demo:1");
    import_other(&strata, "other:1", "ENV A=1");
    strata.run(&["tag", "demo:1", "x"]).succeeded();
    strata.run(&["tag", "other:1", "x"]).succeeded();
    let outcome = strata.run(&["undo", "3"]);
    assert_eq!(
        outcome.to_string(),
        "[stderr]\ncannot undo `tag demo:1 x`: x:latest was changed since by `tag other:1 x` (operation 4)\nundo 4 first\n[exit 1]\n"
    );
}

#[test]
fn a_push_is_not_undone_and_what_clients_push_is() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/demo:1", served.address());
    let strata = strata();
    strata.import_small(&name);
    strata.run(&["push", &name]).succeeded();
    let undone = strata.run(&["undo"]).stdout();
    assert!(undone.starts_with("Undone: import"), "{undone}");
    let undone = server.run(&["undo"]).stdout();
    let expected = "Undone: push demo:1 (from a client)\nUntagged: demo:1\n";
    assert!(undone.starts_with(expected), "{undone}");
}
