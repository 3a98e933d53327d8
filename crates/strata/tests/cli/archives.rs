//! `import`, `save` and `load`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use testkit::tarball::{Member, Tarball};

use crate::strata;

#[test]
fn an_imported_root_has_the_changes_and_the_message() {
    let strata = strata();
    let tar = Tarball::new()
        .push(&Member::file("hello", b"hello\n"))
        .finish();
    strata.write("root.tar", &tar);
    let words = [
        "import",
        "-m",
        "hello",
        "-c",
        "ENV A=1",
        "-c",
        "CMD [\"/hello\"]",
        "root.tar",
        "imp:1",
    ];
    let id = strata.run(&words).stdout();
    assert!(id.starts_with("sha256:") && id.len() == 72, "{id}");
    let config = strata.run(&["inspect", "-f", "{{json .Config}}", "imp:1"]);
    assert_eq!(
        config.stdout(),
        "{\"Env\":[\"A=1\"],\"Cmd\":[\"/hello\"]}\n"
    );
    let comment = strata.run(&["history", "--format", "{{.Comment}}", "imp:1"]);
    assert_eq!(comment.stdout(), "hello\n");
    for (words, expected) in [
        (
            &["import", "/nofile"][..],
            "[stderr]\nopen /nofile: no such file or directory\n[exit 1]\n",
        ),
        (
            &["import", "-c", "RUN x", "root.tar"],
            "[stderr]\nError response from daemon: RUN is not a valid change command\n[exit 1]\n",
        ),
    ] {
        assert_eq!(strata.run(words).to_string(), expected);
    }
}

#[test]
fn what_is_saved_loads_again_with_the_same_id() {
    let strata = strata();
    let id = strata.import_small("a:1");
    strata.run(&["tag", "a:1", "a:2"]).succeeded();
    strata.run(&["save", "-o", "a.tar", "a"]).succeeded();
    let mut piped = strata.command(&["save", "a:1"]);
    let archive = piped.output().expect("the program runs").stdout;
    let other = crate::strata();
    let loaded = other.run_with(&["load"], &archive).stdout();
    assert_eq!(loaded, "Loaded image: a:1\n");
    let path = strata.work("a.tar");
    let path = path.to_str().expect("a path of a test");
    let loaded = other.run(&["load", "-i", path]).stdout();
    assert_eq!(loaded, "Loaded image: a:1\nLoaded image: a:2\n");
    let ids = other.run(&["images", "-q", "--no-trunc"]).stdout();
    assert_eq!(ids, format!("{id}\n{id}\n"));
}

#[test]
fn what_is_saved_to_a_file_is_for_its_owner_only() {
    let strata = strata();
    strata.import_small("a:1");
    strata.write("a.tar", "what others could read");
    strata.run(&["save", "-o", "a.tar", "a:1"]).succeeded();
    let status = fs::metadata(strata.work("a.tar")).expect("it is there");
    assert_eq!(status.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_failed_save_leaves_the_file_that_was_there() {
    let strata = strata();
    strata.write("a.tar", "precious");
    assert_eq!(
        strata.run(&["save", "-o", "a.tar", "nosuch"]).to_string(),
        "[stderr]\nError response from daemon: No such image: nosuch\n[exit 1]\n"
    );
    let left = fs::read_to_string(strata.work("a.tar")).expect("it is there");
    assert_eq!(left, "precious");
    assert_eq!(fs::read_dir(strata.path("work")).expect("lists").count(), 1);
}

#[test]
fn what_is_no_archive_is_refused() {
    let strata = strata();
    assert_eq!(
        strata.run(&["load", "-i", "/nofile"]).to_string(),
        "[stderr]\nopen /nofile: no such file or directory\n[exit 1]\n"
    );
    assert_eq!(
        strata.run_with(&["load"], b"junk\n").to_string(),
        "[stderr]\nunexpected EOF\n[exit 1]\n"
    );
    assert_eq!(strata.run(&["images", "-q"]).stdout(), "");
}
