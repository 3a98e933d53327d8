//! What is remembered of builds: `history ls`, `logs`, `inspect` and `rm`.

use std::fs;

use serde_json::Value;
use testkit::cli::CommandLine;

use crate::strata;

const TEXT: &str = "FROM small:1 AS first\nARG V=1\nCOPY f /f\nFROM first\nLABEL l=1\nWORKDIR /w\n";

fn bench() -> CommandLine {
    let strata = strata();
    strata.import_small("small:1");
    strata.write("context/Dockerfile", TEXT);
    strata.write("context/f", "f");
    strata.write("context/Bad", "FROM small:1\nCOPY f /f\nCOPY nothing /\n");
    strata
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn builds_are_listed_with_how_they_ended() {
    let strata = bench();
    let none = strata.run(&["history", "inspect"]);
    assert_eq!((none.code, none.stderr.trim()), (1, "no records found"));
    assert_eq!(strata.run(&["build", "-q", "-t", "a:1", "context"]).code, 0);
    let failed = strata.run(&["build", "-f", "context/Bad", "--target=0", "context"]);
    assert_eq!(failed.code, 1, "{failed}");
    let listed = strata.run(&["buildx", "history", "ls"]).stdout();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("BUILD ID "), "{listed}");
    assert!(lines[1].contains(" context/Bad (0) "), "{listed}");
    assert!(lines[1].contains(" Error "), "{listed}");
    assert!(
        lines[2].contains(" context ") && lines[2].contains(" Completed "),
        "{listed}"
    );
    let template = strata.run(&["history", "ls", "--format", "{{.Name}}"]);
    assert_eq!(template.stdout(), "context/Bad (0)\ncontext\n");
    let filter = [
        "history",
        "ls",
        "--format",
        "json",
        "--filter",
        "status=completed",
    ];
    let row = json(&strata.run(&filter).stdout());
    assert_eq!(row["name"], "context");
    assert_eq!(
        (&row["total_steps"], &row["completed_steps"]),
        (&row["completed_steps"], &row["total_steps"])
    );
    let other = strata.run(&["history", "ls", "--filter", "status=running"]);
    assert!(
        other
            .stderr
            .contains("a status is completed, error or canceled"),
        "{other}"
    );

    let object = json(
        &strata
            .run(&["history", "inspect", "--format", "json", "^1"])
            .stdout(),
    );
    assert_eq!(object["Status"], "completed");
    assert_eq!(object["Context"], "context");
    assert_eq!(object["Tags"][0], "docker.io/library/a:1");
    let id = strata.run(&["inspect", "-f", "{{.Id}}", "a:1"]).stdout();
    assert_eq!(object["Attachments"][0]["Digest"], id.trim());
    let base = strata
        .run(&["inspect", "-f", "{{.Id}}", "small:1"])
        .stdout();
    assert_eq!(object["Materials"][0]["Digests"][0], base.trim());
    let failure = json(
        &strata
            .run(&["history", "inspect", "--format", "json"])
            .stdout(),
    );
    assert_eq!(failure["Status"], "failed");
    assert!(
        failure["Error"]["Message"]
            .as_str()
            .is_some_and(|it| it.contains("not found"))
    );
    assert_eq!(failure["Error"]["Name"], "[3/3] COPY nothing /");
    let text = strata.run(&["history", "inspect"]).stdout();
    for part in [
        "Name:\t\tcontext/Bad (0)\n",
        "Error:\t\t",
        "   3 | >>> COPY nothing /",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_log_is_what_the_build_said() {
    let strata = bench();
    for (flags, code) in [(&[][..], 0), (&["-f", "context/Bad"][..], 1)] {
        let build = [&["build", "--progress=plain"], flags, &["context"]].concat();
        let built = strata.run(&build);
        assert_eq!(built.code, code, "{built}");
        let said = built.stderr;
        let first = said.find("#1 ").expect("a first step");
        let log = strata.run(&["history", "logs"]).stdout();
        let compared = match code {
            0 => said[first..].to_owned(),
            // What follows the box is of the command, not of the build.
            _ => {
                let end = said.rfind("--------------------\n").expect("a box");
                said[first..end].to_owned() + "--------------------\n"
            }
        };
        assert_eq!(log.trim_end(), compared.trim_end(), "{flags:?}");
    }
    let raw = strata
        .run(&["history", "logs", "--progress=rawjson", "^1"])
        .stdout();
    let lines: Vec<Value> = raw.lines().map(json).collect();
    let ended = lines
        .iter()
        .filter(|line| line["vertexes"][0]["completed"].is_string());
    let row = json(
        &strata
            .run(&[
                "history",
                "ls",
                "--format=json",
                "--filter=status=completed",
            ])
            .stdout(),
    );
    assert_eq!(row["total_steps"], ended.count());
    let live = strata
        .run(&["build", "--progress=rawjson", "context"])
        .stderr;
    let cached = live
        .lines()
        .map(json)
        .filter(|line| line["vertexes"][0]["cached"] == true);
    assert_eq!(cached.count(), 2);
    assert!(
        strata
            .run(&["history", "logs", "nope"])
            .stderr
            .contains("no record found for ref \"nope\"")
    );
}

#[test]
fn removed_builds_take_their_logs_with_them() {
    let strata = bench();
    let blobs = || {
        fs::read_dir(strata.path("root/blobs/sha256"))
            .expect("lists")
            .count()
    };
    assert_eq!(strata.run(&["build", "-q", "-t", "a", "context"]).code, 0);
    assert!(strata.settle());
    let before = blobs();
    for _ in 0..2 {
        assert_eq!(strata.run(&["build", "-q", "-t", "a", "context"]).code, 0);
    }
    assert!(strata.settle());
    assert_eq!(blobs(), before + 2, "a log for each build");
    let fsck = strata.run(&["system", "fsck", "--full"]);
    assert_eq!(fsck.code, 0, "{fsck}");
    let reference = strata
        .run(&["history", "ls", "--format", "{{.Ref}}"])
        .stdout();
    let last = reference.lines().next().expect("a build").to_owned();
    assert_eq!(strata.run(&["history", "rm", &last[..9]]).code, 0);
    assert!(strata.settle());
    assert_eq!(strata.run(&["image", "prune", "-f"]).code, 0);
    assert!(strata.settle());
    assert_eq!(blobs(), before + 1);
    assert_eq!(strata.run(&["history", "rm", "--all"]).code, 0);
    assert_eq!(
        strata.run(&["history", "ls", "--format={{.Ref}}"]).stdout(),
        ""
    );
    let neither = strata.run(&["history", "rm"]);
    assert_eq!(neither.code, 1, "{neither}");
    assert_eq!(strata.run(&["build", "-q", "context"]).code, 0);
    let unset = strata.run(&["history", "rm", ""]);
    assert!(
        unset.stderr.contains("no record found for ref \"\""),
        "{unset}"
    );
    assert_eq!(
        strata
            .run(&["history", "ls", "--format={{.Name}}"])
            .stdout(),
        "context\n"
    );
}

#[test]
fn the_build_cache_is_told_record_by_record() {
    let strata = bench();
    assert_eq!(strata.run(&["build", "-q", "-t", "a:1", "context"]).code, 0);
    let table = strata.run(&["builder", "du"]).stdout();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("ID  ") && lines[0].ends_with("LAST ACCESSED"),
        "{table}"
    );
    assert_eq!(lines.len(), 1 + 2 + 4, "{table}");
    for (line, start) in lines[3..]
        .iter()
        .zip(["Shared:", "Private:", "Reclaimable:", "Total:"])
    {
        assert!(line.starts_with(start), "{table}");
    }
    assert_eq!(strata.run(&["rmi", "a:1"]).code, 0);
    let objects = strata.run(&["buildx", "du", "--format=json"]).stdout();
    for line in objects.lines() {
        let object = json(line);
        assert_eq!(
            (&object["Shared"], &object["Reclaimable"]),
            (&json("false"), &json("true"))
        );
    }
    let pretty = strata.run(&["buildx", "du", "--verbose"]).stdout();
    assert!(
        pretty.contains("Description:  COPY f /f # buildkit\n"),
        "{pretty}"
    );
    let filtered = strata
        .run(&["buildx", "du", "--filter", "description~=WORKDIR"])
        .stdout();
    assert_eq!(filtered.lines().count(), 1 + 1 + 4, "{filtered}");
    assert_eq!(strata.run(&["builder", "prune", "-af"]).code, 0);
    assert!(
        strata
            .run(&["builder", "du"])
            .stdout()
            .ends_with("Total:\t\t0B\n")
    );
}
