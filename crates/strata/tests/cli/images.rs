//! `images`, `tag`, `rmi`, `image inspect`, `history`, `image prune`.

use crate::strata;

#[test]
fn a_new_store_has_no_images() {
    let strata = strata();
    assert_eq!(
        strata.run(&["images"]).to_string(),
        "[stdout]\nREPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n[exit 0]\n"
    );
    assert_eq!(strata.run(&["images", "-q"]).stdout(), "");
}

#[test]
fn images_are_listed_by_name_and_by_every_format() {
    let strata = strata();
    let id = strata.import_small("demo:1");
    let short = &id["sha256:".len()..][..12];
    assert_eq!(strata.run(&["tag", "demo:1", "team/demo:2"]).stdout(), "");
    let list = |words: &[&str]| {
        let mut all = vec!["image", "ls"];
        all.extend(words);
        strata.run(&all).stdout()
    };
    let template = "{{.Repository}}:{{.Tag}} {{.Size}} {{.Digest}}";
    assert_eq!(
        list(&["--format", template]),
        "demo:1 8B <none>\nteam/demo:2 8B <none>\n"
    );
    assert_eq!(
        list(&["--format", "table {{.Repository}}\\t{{.Tag}}"]),
        "REPOSITORY   TAG\ndemo         1\nteam/demo    2\n"
    );
    assert_eq!(list(&["-q"]), format!("{short}\n{short}\n"));
    assert_eq!(list(&["-q", "--no-trunc", "demo"]), format!("{id}\n"));
    for (filter, expected) in [
        ("reference=team/*", "team/demo:2\n"),
        ("reference=demo", "demo:1\n"),
        ("dangling=true", ""),
        ("since=demo:1", ""),
        ("label=x", ""),
    ] {
        let words = ["--format", "{{.Repository}}:{{.Tag}}", "-f", filter];
        assert_eq!(list(&words), expected, "{filter}");
    }
    let json = list(&["--format", "json", "demo"]);
    assert!(
        json.contains("\"Digest\":\"\\u003cnone\\u003e\"")
            && json.contains("\"Repository\":\"demo\""),
        "{json}"
    );
    assert_eq!(
        strata.run(&["images", "-f", "bogus=1"]).to_string(),
        "[stderr]\nError response from daemon: invalid filter 'bogus'\n[exit 1]\n"
    );
}

#[test]
fn a_name_moves_and_leaves_the_old_image_dangling() {
    let strata = strata();
    let first = strata.import_small("demo:1");
    let outcome = strata.run_with(&["import", "-c", "ENV A=1", "-", "demo:1"], &[0; 1024]);
    assert_ne!(outcome.stdout().trim(), first);
    let dangling = strata.run(&["images", "-f", "dangling=true", "-q", "--no-trunc"]);
    assert_eq!(dangling.stdout(), format!("{first}\n"));
    assert_eq!(
        strata.run(&["image", "prune"]).stdout(),
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    );
    let pruned = strata.run(&["image", "prune", "-f"]).stdout();
    assert!(
        pruned.starts_with(&format!("Deleted Images:\ndeleted: {first}\n")),
        "{pruned}"
    );
    assert_eq!(
        strata.run(&["image", "prune", "-f"]).stdout(),
        "Total reclaimed space: 0B\n"
    );
}

#[test]
fn tag_refuses_what_is_no_name_and_what_is_no_image() {
    let strata = strata();
    strata.import_small("demo:1");
    for (words, expected) in [
        (
            ["tag", "nosuch", "y"],
            "[stderr]\nError response from daemon: No such image: nosuch:latest\n[exit 1]\n",
        ),
        (
            ["tag", "demo:1", "a:b:c"],
            "[stderr]\nError parsing reference: \"a:b:c\" is not a valid repository/tag: invalid reference format\ndid you mean a:b.c?\n[exit 1]\n",
        ),
    ] {
        assert_eq!(strata.run(&words).to_string(), expected);
    }
}

#[test]
fn rmi_untags_and_deletes_with_the_last_name() {
    let strata = strata();
    let id = strata.import_small("demo:1");
    strata.run(&["tag", "demo:1", "demo:2"]).succeeded();
    assert_eq!(
        strata.run(&["rmi", "demo:2"]).stdout(),
        "Untagged: demo:2\n"
    );
    let removed = strata.run(&["rmi", "demo:1"]).stdout();
    let expected = format!("Untagged: demo:1\nDeleted: {id}\n");
    assert!(removed.starts_with(&expected), "{removed}");
    assert_eq!(
        strata.run(&["rmi", "nosuch", "other"]).to_string(),
        "[stderr]\nError response from daemon: No such image: nosuch:latest\nError response from daemon: No such image: other:latest\n[exit 1]\n"
    );
    assert_eq!(
        strata.run(&["image", "rm", "-f", "nosuch"]).to_string(),
        "[stderr]\nError response from daemon: No such image: nosuch:latest\n[exit 0]\n"
    );
}

#[test]
fn inspect_shows_dockers_keys_and_runs_templates() {
    let strata = strata();
    let id = strata.import_small("demo:1");
    let inspect = |words: &[&str]| {
        let mut all = vec!["image", "inspect"];
        all.extend(words);
        strata.run(&all)
    };
    let text = inspect(&["demo:1"]).stdout();
    let head = format!(
        "[\n    {{\n        \"Id\": \"{id}\",\n        \"RepoTags\": [\n            \"demo:1\"\n        ],\n        \"RepoDigests\": [],\n        \"Parent\": \"\",\n        \"Comment\": \"Imported from -\",\n"
    );
    assert!(text.starts_with(&head), "{text}");
    for (template, expected) in [
        ("{{.Id}}", format!("{id}\n")),
        (
            "{{.RepoTags}} {{.Size}} {{.Os}}",
            "[demo:1] 8 linux\n".to_owned(),
        ),
        ("{{index .RepoTags 0}}", "demo:1\n".to_owned()),
        ("{{json .Config}}", "{}\n".to_owned()),
        (
            "{{.Config.User}}|{{.Config.Entrypoint}}|{{index .Config.Labels \"x\"}}|{{if .Config.Healthcheck}}h{{end}}",
            "|[]||\n".to_owned(),
        ),
    ] {
        assert_eq!(inspect(&["-f", template, "demo:1"]).stdout(), expected);
    }
    assert_eq!(
        inspect(&["nosuch"]).to_string(),
        "[stdout]\n[]\n[stderr]\nError response from daemon: No such image: nosuch:latest\n[exit 1]\n"
    );
    assert_eq!(
        inspect(&["-f", "{{.Id}}", "demo:1", "nosuch"]).to_string(),
        format!(
            "[stdout]\n{id}\n[stderr]\nError response from daemon: No such image: nosuch:latest\n[exit 1]\n"
        )
    );
    assert_eq!(
        inspect(&["-f", "{{.Nope}}", "demo:1"]).to_string(),
        "[stdout]\n\n[stderr]\ntemplate parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"\n[exit 1]\n"
    );
    assert_eq!(
        strata.run(&["inspect", "nosuch"]).to_string(),
        "[stdout]\n[]\n[stderr]\nError: No such object: nosuch\n[exit 1]\n"
    );
}

#[test]
fn history_shows_the_import() {
    let strata = strata();
    strata.import_small("demo:1");
    let history = strata.run(&[
        "history",
        "-H=false",
        "--format",
        "{{.CreatedBy}}|{{.Size}}|{{.Comment}}",
        "demo:1",
    ]);
    assert_eq!(history.stdout(), "|8|Imported from -\n");
    assert_eq!(
        strata.run(&["history", "nosuch"]).to_string(),
        "[stderr]\nError response from daemon: No such image: nosuch:latest\n[exit 1]\n"
    );
}
