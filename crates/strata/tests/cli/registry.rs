//! `push`, `pull` and `registry serve`.

use crate::strata;

#[test]
fn what_is_pushed_is_pulled_with_the_same_digest() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/team/demo:1", served.address());
    let strata = strata();
    let id = strata.import_small(&name);
    let pushed = strata.run(&["push", &name]).stdout();
    let lines: Vec<&str> = pushed.lines().collect();
    let repository = name.strip_suffix(":1").expect("a tag");
    assert_eq!(
        lines[0],
        format!("The push refers to repository [{repository}]")
    );
    assert!(lines[1].ends_with(": Preparing"), "{pushed}");
    assert!(lines[2].ends_with(": Pushed"), "{pushed}");
    let digest = lines[3]
        .strip_prefix("1: digest: ")
        .and_then(|rest| rest.split(' ').next())
        .expect("a digest");
    let again = strata.run(&["push", &name]).stdout();
    assert!(again.contains(": Layer already exists\n"), "{again}");
    assert_eq!(
        strata.run(&["push", "-q", &name]).stdout(),
        format!("{name}\n")
    );

    let latest = format!("{repository}:latest");
    strata.run(&["tag", &name, &latest]).succeeded();
    let pushed = strata.run(&["push", "-q", repository]).stdout();
    assert_eq!(pushed, format!("{latest}\n"));

    let other = crate::strata();
    let pulled = other.run(&["pull", &name]).stdout();
    let lines: Vec<&str> = pulled.lines().collect();
    assert_eq!(lines[0], "1: Pulling from team/demo");
    assert!(lines[1].ends_with(": Pulling fs layer"), "{pulled}");
    assert!(pulled.ends_with(&format!(
        ": Pull complete\nDigest: {digest}\nStatus: Downloaded newer image for {name}\n{name}\n"
    )));
    assert_eq!(
        other.run(&["pull", &name]).stdout(),
        format!(
            "1: Pulling from team/demo\nDigest: {digest}\nStatus: Image is up to date for {name}\n{name}\n"
        )
    );
    assert_eq!(
        other.run(&["pull", "-q", &name]).stdout(),
        format!("{name}\n")
    );
    let found = other.run(&["inspect", "-f", "{{.Id}} {{.RepoDigests}}", &name]);
    assert_eq!(found.stdout(), format!("{id} [{repository}@{digest}]\n"));
}

#[test]
fn a_compression_that_does_not_exist_is_refused() {
    for value in [
        "", "brotli", "gzip:0", "gzip:13", "zstd:20", "zstd:x", "zstd:",
    ] {
        let outcome = strata().run(&["push", "--compression", value, "a"]);
        let message = format!(
            "invalid argument {value:?} for \"--compression\" flag: must be gzip, gzip:1 to gzip:12, zstd, or zstd:1 to zstd:19\n"
        );
        assert!(outcome.stderr.starts_with(&message), "{outcome}");
        assert_eq!(outcome.code, 125);
    }
}

#[test]
fn what_is_not_there_is_told_in_dockers_words() {
    let server = strata();
    let served = server.serve(&[]);
    let address = served.address();
    let strata = strata();
    let repository = format!("{address}/team/nosuch");
    assert_eq!(
        strata.run(&["pull", &repository]).to_string(),
        format!(
            "[stdout]\nUsing default tag: latest\n[stderr]\nError response from daemon: manifest for {repository}:latest not found: manifest unknown: manifest unknown\n[exit 1]\n"
        )
    );
    assert_eq!(
        strata.run(&["push", &repository]).to_string(),
        format!(
            "[stdout]\nUsing default tag: latest\nThe push refers to repository [{repository}]\n[stderr]\nAn image does not exist locally with the tag: {repository}\n[exit 1]\n"
        )
    );
    strata.import_small(&format!("{repository}:1"));
    let refused = strata.run(&["push", &format!("{repository}:1")]);
    assert_eq!(
        refused.code, 1,
        "the server was not told to take pushes: {refused}"
    );
}

#[test]
fn all_tags_go_both_ways() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let repository = format!("{}/demo", served.address());
    let strata = strata();
    strata.import_small(&format!("{repository}:1"));
    strata
        .run(&[
            "tag",
            &format!("{repository}:1"),
            &format!("{repository}:2"),
        ])
        .succeeded();
    strata.run(&["push", "-a", &repository]).succeeded();
    let other = crate::strata();
    let pulled = other.run(&["pull", "-a", &repository]).stdout();
    assert!(
        pulled.ends_with(&format!(
            "Status: Downloaded newer image for {repository}\n{repository}\n"
        )),
        "{pulled}"
    );
    let tags = other.run(&["images", "--format", "{{.Tag}}"]).stdout();
    assert_eq!(tags, "1\n2\n");
}
