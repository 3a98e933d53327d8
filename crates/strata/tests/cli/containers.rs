//! What `run` leaves behind: `ps`, `logs`, `start`, `commit`, `rm`.

use crate::strata;

#[test]
fn what_is_not_there_is_told_in_dockers_words() {
    let strata = strata();
    for words in [
        &["logs", "nosuch"][..],
        &["rm", "nosuch"],
        &["commit", "nosuch"],
    ] {
        assert_eq!(
            strata.run(words).to_string(),
            "[stderr]\nError response from daemon: No such container: nosuch\n[exit 1]\n"
        );
    }
    assert_eq!(
        strata.run(&["ps", "-a"]).stdout(),
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    );
    assert_eq!(
        strata.run(&["ps", "-f", "bogus=1"]).to_string(),
        "[stderr]\nError response from daemon: invalid filter 'bogus'\n[exit 1]\n"
    );
}

#[test]
fn a_container_is_exported_with_its_changes_and_imported_again() {
    let strata = strata();
    strata.import_small("demo:1");
    strata
        .run(&["create", "--name", "ex", "demo:1", "x"])
        .succeeded();
    let outcome = strata.run(&["export", "-o", "ex.tar", "ex"]);
    assert_eq!(outcome.to_string(), "[exit 0]\n");
    let piped = strata.command(&["export", "ex"]).output().expect("it runs");
    let file = std::fs::read(strata.work("ex.tar")).expect("written");
    assert_eq!(piped.stdout, file);
    let id = strata.run(&["import", "ex.tar", "again:1"]).stdout();
    let layers = |name: &str| {
        let words = ["image", "inspect", "-f", "{{.Size}}", name];
        strata.run(&words).stdout()
    };
    assert_eq!(layers("again:1"), layers("demo:1"), "{id}");
    let missing = strata.run(&["export", "nosuch"]);
    assert_eq!(
        missing.to_string(),
        "[stderr]\nError response from daemon: No such container: nosuch\n[exit 1]\n"
    );
}

#[test]
fn a_created_container_is_listed_and_removed() {
    let strata = strata();
    strata.import_small("demo:1");
    let words = [
        "create",
        "--name",
        "cr",
        "-l",
        "a=b",
        "demo:1",
        "/bin/a long command line",
    ];
    let id = strata.run(&words).stdout();
    assert_eq!(id.trim().len(), 64);
    let format = "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Status}}|{{.Labels}}";
    for (filter, expected) in [
        (
            "name=cr",
            "cr|demo:1|\"/bin/a long command…\"|created|Created|a=b\n",
        ),
        ("label=a=c", ""),
        ("status=running", ""),
    ] {
        let listed = strata.run(&["ps", "-a", "-f", filter, "--format", format]);
        assert_eq!(listed.stdout(), expected, "{filter}");
    }
    let inspect = "{{.Name}} {{.State.Status}} {{json .Config.Cmd}}";
    assert_eq!(
        strata.run(&["inspect", "-f", inspect, "cr"]).stdout(),
        "/cr created [\"/bin/a long command line\"]\n"
    );
    let conflict = strata.run(&["rmi", "demo:1"]);
    assert_eq!(conflict.code, 1, "{conflict}");
    assert!(
        conflict.stderr.contains("(must force) - container"),
        "{conflict}"
    );
    assert_eq!(strata.run(&["rm", "cr"]).stdout(), "cr\n");
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
}

#[test]
fn privileged_a_container_stays_until_it_is_removed() {
    let strata = strata();
    strata.import_busybox("busybox");
    let script = "test -e /mark && echo again; touch /mark; echo out; echo err >&2; exit 3";
    let outcome = strata.run(&["run", "--name", "w1", "busybox", "sh", "-c", script]);
    assert_eq!(
        outcome.to_string(),
        "[stdout]\nout\n[stderr]\nerr\n[exit 3]\n"
    );
    assert_eq!(
        strata
            .run(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"])
            .redacted(),
        "[stdout]\nw1 Exited (3) <now>\n[exit 0]\n"
    );
    assert_eq!(strata.run(&["ps", "-q"]).stdout(), "");
    let started = strata.run(&["start", "-a", "w1"]);
    assert_eq!(
        started.to_string(),
        "[stdout]\nagain\nout\n[stderr]\nerr\n[exit 3]\n"
    );
    assert_eq!(
        strata.run(&["logs", "w1"]).to_string(),
        "[stdout]\nout\nagain\nout\n[stderr]\nerr\nerr\n[exit 0]\n"
    );
    assert_eq!(strata.run(&["rm", "w1"]).stdout(), "w1\n");
    assert_eq!(strata.run(&["rm", "w1"]).code, 1);
}

#[test]
fn privileged_a_detached_container_runs_until_it_is_killed() {
    let strata = strata();
    strata.import_busybox("busybox");
    let words = [
        "run",
        "-d",
        "--name",
        "dd",
        "busybox",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ];
    let id = strata.run(&words).stdout();
    assert_eq!(
        strata.run(&["ps", "--no-trunc", "-q"]).stdout(),
        id,
        "it runs when the command returns"
    );
    assert_eq!(
        strata.run(&["rm", "dd"]).to_string(),
        "[stderr]\nError response from daemon: cannot remove container \"dd\": container is running: stop the container before removing or force remove\n[exit 1]\n"
    );
    assert_eq!(strata.run(&["rm", "-f", "dd"]).stdout(), "dd\n");
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
    let failed = strata.run(&["run", "-d", "--rm", "busybox", "nope"]);
    assert_eq!(failed.code, 127, "{failed}");
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
}

#[test]
fn privileged_a_detached_containers_end_is_recorded() {
    let strata = strata();
    strata.import_busybox("busybox");
    let words = [
        "run",
        "-d",
        "--name",
        "ex",
        "busybox",
        "sh",
        "-c",
        "echo bye; exit 3",
    ];
    strata.run(&words).succeeded();
    assert_eq!(strata.run(&["logs", "-f", "ex"]).stdout(), "bye\n");
    let state = "{{.State.Status}} {{.State.ExitCode}}";
    let mut outcome = strata.run(&["inspect", "-f", state, "ex"]).stdout();
    // The log is complete a moment before the end is recorded.
    while outcome.starts_with("running") {
        outcome = strata.run(&["inspect", "-f", state, "ex"]).stdout();
    }
    assert!(
        outcome == "exited 3\n" || outcome == "exited 137\n",
        "{outcome}"
    );
}

#[test]
fn privileged_a_commit_holds_the_changes_and_only_them() {
    let strata = strata();
    strata.import_busybox("busybox");
    let script = "echo new > /new; rm /etc/group; mkdir /dir; touch /dir/f";
    strata
        .run(&[
            "run", "--name", "cc", "-e", "A=1", "busybox", "sh", "-c", script,
        ])
        .succeeded();
    let words = [
        "commit",
        "-m",
        "msg",
        "-a",
        "me",
        "-c",
        "CMD [\"cat\", \"/new\"]",
        "cc",
        "snap:1",
    ];
    let id = strata.run(&words).stdout();
    assert_eq!(strata.run(&["run", "--rm", "snap:1"]).stdout(), "new\n");
    let listed = strata.run(&["run", "--rm", "snap:1", "ls", "/etc", "/dir"]);
    assert!(!listed.stdout().contains("group"));
    let history = strata.run(&[
        "history",
        "--format",
        "{{.CreatedBy}}|{{.Size}}|{{.Comment}}",
        "snap:1",
    ]);
    let first = history.stdout();
    assert!(
        first.starts_with(
            &format!("sh -c {script}")
                .chars()
                .take(44)
                .collect::<String>()
        ),
        "{first}"
    );
    assert!(first.contains("|4B|msg\n"), "{first}");
    let inspect = strata
        .run(&[
            "inspect",
            "-f",
            "{{.Id}} {{.Author}} {{.Config.Env}}",
            "snap:1",
        ])
        .stdout();
    assert!(
        inspect.starts_with(id.trim()) && inspect.contains(" me [A=1"),
        "{inspect}"
    );
}

#[test]
fn privileged_a_killed_command_takes_its_container_with_it_and_leaves_a_record() {
    let strata = strata();
    strata.import_busybox("busybox");
    let mut child = strata
        .command(&[
            "run",
            "--name",
            "killed",
            "busybox",
            "sh",
            "-c",
            "echo up; exec sleep 1000",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
        .expect("it prints");
    assert_eq!(line, "up\n");
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    // The kernel kills the container when its supervisor is gone, a moment later.
    while !strata.run(&["ps", "-q"]).stdout().is_empty() {}
    let status = strata.run(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    assert_eq!(status.stdout(), "killed Exited (137)\n");
    assert_eq!(strata.run(&["logs", "killed"]).stdout(), "up\n");
    assert_eq!(strata.run(&["rm", "killed"]).stdout(), "killed\n");
}
