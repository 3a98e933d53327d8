//! `run`: streams, exit codes, flags.

use std::fs;

use testkit::cli::CommandLine;

use crate::strata;

fn with_busybox() -> CommandLine {
    let strata = strata();
    strata.import_busybox("busybox");
    strata
}

#[test]
fn what_cannot_run_is_refused_before_anything_is_pulled() {
    let docker = strata().called("docker");
    docker.import_small("nocmd");
    for (words, expected) in [
        (
            &["run", "--pull", "never", "nosuch"][..],
            "docker: Error response from daemon: No such image: nosuch:latest",
        ),
        (
            &["run", "--pull", "bogus", "nosuch"],
            "docker: invalid pull option: 'bogus': must be one of \"always\", \"missing\" or \"never\"",
        ),
        (
            &["run", "--name", "BAD/NAME", "nosuch"],
            "docker: Error response from daemon: Invalid container name (BAD/NAME), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (
            &["run", "-v", ".:rel", "nosuch"],
            "docker: Error response from daemon: invalid volume specification: '.:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
        ),
        (
            &["run", "--network", "bridge", "nosuch"],
            "docker: network `bridge` is not supported yet: use none or host",
        ),
        (
            &["run", "nocmd"],
            "docker: Error response from daemon: no command specified",
        ),
        (
            &["run", "-w", "relative", "nocmd", "x"],
            "docker: Error response from daemon: the working directory 'relative' is invalid, it needs to be an absolute path",
        ),
    ] {
        assert_eq!(
            docker.run(words).to_string(),
            format!(
                "[stderr]\n{expected}\n\nRun 'docker run --help' for more information\n[exit 125]\n"
            )
        );
    }
    assert_eq!(
        docker.run(&["run", "-it", "nosuch"]).to_string(),
        "[stderr]\nthe input device is not a TTY\n[exit 1]\n"
    );
    assert_eq!(docker.run(&["ps", "-aq"]).stdout(), "");
}

#[test]
fn privileged_exit_codes_are_dockers() {
    let strata = with_busybox();
    for (command, expected) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 42"], 42),
        (&["/nope"], 127),
        (&["nope"], 127),
        (&["/etc"], 126),
        (&["/etc/passwd"], 126),
    ] {
        let mut words = vec!["run", "--rm", "--network", "none", "busybox"];
        words.extend(command);
        let outcome = strata.run(&words);
        assert_eq!(outcome.code, expected, "{command:?}: {outcome}");
    }
    let user = strata.run(&["run", "--rm", "-u", "nouser", "busybox", "id"]);
    assert_eq!(user.code, 125);
    assert!(
        user.stderr.starts_with("strata: Error response from daemon: unable to find user nouser: no matching entries in passwd file\n"),
        "{user}"
    );
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
}

#[test]
fn privileged_streams_are_kept_apart_and_input_reaches_the_program() {
    let strata = with_busybox();
    for keep in [&["--rm"][..], &[]] {
        let mut words = vec!["run", "-i"];
        words.extend(keep);
        words.extend(["busybox", "sh", "-c", "cat; echo err >&2"]);
        let outcome = strata.run_with(&words, b"in\n");
        assert_eq!(
            outcome.to_string(),
            "[stdout]\nin\n[stderr]\nerr\n[exit 0]\n"
        );
    }
    let unread = strata.run_with(&["run", "--rm", "busybox", "cat"], b"not for you\n");
    assert_eq!(unread.stdout(), "");
}

#[test]
fn privileged_a_large_output_arrives_whole() {
    let strata = with_busybox();
    let script = "i=0; while [ $i -lt 20000 ]; do echo 0123456789abcdef; i=$((i+1)); done";
    for keep in [&["--rm"][..], &["--name", "big"]] {
        let mut words = vec!["run"];
        words.extend(keep);
        words.extend(["busybox", "sh", "-c", script]);
        assert_eq!(strata.run(&words).stdout().len(), 20000 * 17);
    }
    assert_eq!(strata.run(&["logs", "big"]).stdout().len(), 20000 * 17);
    let tail = strata.run(&["logs", "-n", "2", "big"]).stdout();
    assert_eq!(tail, "0123456789abcdef\n0123456789abcdef\n");
}

#[test]
fn privileged_flags_reach_the_container() {
    let strata = with_busybox().variable("OUTSIDE", "from outside");
    strata.write("env", "# comment\nFILE=1\nOUTSIDE\n");
    strata.write("shared/file", "shared\n");
    let work = strata.path("work");
    let bind = format!("{}/shared:/shared:ro", work.display());
    for (flags, command, expected) in [
        (
            &["-e", "A=1", "-e", "OUTSIDE", "-e", "NOPE", "-h", "hh"][..],
            "echo $A/$OUTSIDE/$NOPE/$HOSTNAME; hostname",
            "1/from outside//hh\nhh\n",
        ),
        (
            &["--env-file", "env"],
            "echo $FILE $OUTSIDE",
            "1 from outside\n",
        ),
        (&["-w", "/tmp/new"], "pwd", "/tmp/new\n"),
        (
            &["-u", "user"],
            "id -u; id -g; echo $HOME",
            "1000\n1000\n/home\n",
        ),
        (
            &["-v", &bind],
            "cat /shared/file; touch /shared/x 2>/dev/null || echo read-only",
            "shared\nread-only\n",
        ),
        (
            &["--read-only"],
            "touch /x 2>/dev/null || echo read-only",
            "read-only\n",
        ),
        (
            &["--entrypoint", "echo"],
            "as arguments",
            "-c as arguments\n",
        ),
        (
            &["--network", "none", "--hostname", "lonely"],
            "cat /etc/hostname; grep -c localhost /etc/hosts",
            "lonely\n2\n",
        ),
    ] {
        let mut words = vec!["run", "--rm"];
        words.extend(flags);
        words.push("busybox");
        if !flags.contains(&"--entrypoint") {
            words.push("sh");
        }
        words.extend(["-c", command]);
        assert_eq!(
            strata.run(&words).to_string(),
            format!("[stdout]\n{expected}[exit 0]\n")
        );
    }
}

#[test]
fn privileged_a_name_is_taken_once() {
    let docker = with_busybox().called("docker");
    docker
        .run(&["run", "--name", "web", "busybox", "true"])
        .succeeded();
    let id = docker.run(&["ps", "-aq", "--no-trunc"]).stdout();
    assert_eq!(
        docker
            .run(&["run", "--name", "web", "busybox", "true"])
            .to_string(),
        format!(
            "[stderr]\ndocker: Error response from daemon: Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.\n\nRun 'docker run --help' for more information\n[exit 125]\n",
            id.trim()
        )
    );
}

#[test]
fn privileged_nothing_is_left_of_a_container_that_removes_itself() {
    let strata = with_busybox();
    let script = "touch /a /b; mkdir /d; chmod 0 /d; exit 3";
    let outcome = strata.run(&["run", "--rm", "busybox", "sh", "-c", script]);
    assert_eq!(outcome.code, 3, "{outcome}");
    let left = fs::read_dir(strata.path("root/containers")).expect("there");
    assert_eq!(left.count(), 0);
    // Bare directories may wait there; files may not.
    let trash = strata.path("root/trash");
    let mut pending = vec![trash];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("readable");
            let is_directory = entry.file_type().expect("readable").is_dir();
            assert!(is_directory, "{}", entry.path().display());
            pending.push(entry.path());
        }
    }
}

#[test]
fn privileged_a_terminal_has_its_size_and_passes_keys_on() {
    let strata = with_busybox();
    let program = strata.command(&[]).get_program().to_owned();
    let program = program.to_str().expect("a path of a test").to_owned();
    let line = format!(
        "stty cols 91 rows 33; {program} run --rm -it busybox sh -c 'stty size; tty; read x; echo got $x'"
    );
    let script = strata.command(&[]);
    let mut terminal = std::process::Command::new("script");
    terminal
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(
            script
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = terminal.spawn().expect("script is installed");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, b"typed\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("33 91"), "{text}");
    assert!(text.contains("/dev/pts/0"), "{text}");
    assert!(text.contains("got typed"), "{text}");
}

#[test]
fn privileged_signals_reach_the_program() {
    let strata = with_busybox();
    let script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = strata
        .command(&["run", "--rm", "busybox", "sh", "-c", script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("it prints");
    assert_eq!(line, "ready\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
    line.clear();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("it prints");
    assert_eq!(line, "asked\n");
    assert_eq!(child.wait().expect("it ends").code(), Some(9));
}
