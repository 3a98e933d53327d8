//! Unknown words, missing arguments, help.

use crate::strata;

#[track_caller]
fn check(words: &[&str], expected: &str) {
    let docker = strata().called("docker");
    assert_eq!(docker.run(words).to_string(), expected, "{words:?}");
}

#[test]
fn unknown_commands_are_refused_in_dockers_words() {
    check(
        &["bogus"],
        "[stderr]\ndocker: unknown command: docker bogus\n\nRun 'docker --help' for more information\n[exit 1]\n",
    );
    check(
        &["image", "bogus"],
        "[stderr]\ndocker: unknown command: docker image bogus\n\nUsage:  docker image\n\nRun 'docker image --help' for more information\n[exit 1]\n",
    );
    check(
        &["stop", "web"],
        "[stderr]\ndocker: 'stop' is a command of docker that strata does not have yet\n\nRun 'docker --help' for more information\n[exit 1]\n",
    );
    check(
        &["container", "exec"],
        "[stderr]\ndocker: 'container exec' is a command of docker that strata does not have yet\n\nUsage:  docker container\n\nRun 'docker container --help' for more information\n[exit 1]\n",
    );
    check(
        &["image", "bogus", "--x"],
        "[stderr]\nunknown flag: --x\n\nUsage:  docker image\n\nRun 'docker image --help' for more information\n[exit 125]\n",
    );
}

#[test]
fn unknown_flags_end_with_125_on_every_command() {
    check(
        &["images", "--bogus"],
        "[stderr]\nunknown flag: --bogus\n\nUsage:  docker images [OPTIONS] [REPOSITORY[:TAG]]\n\nRun 'docker images --help' for more information\n[exit 125]\n",
    );
    check(
        &["run", "-Z", "a"],
        "[stderr]\nunknown shorthand flag: 'Z' in -Z\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'docker run --help' for more information\n[exit 125]\n",
    );
    check(
        &["--bogus", "images"],
        "[stderr]\nunknown flag: --bogus\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\nRun 'docker --help' for more information\n[exit 125]\n",
    );
    check(
        &["run", "-e=", "a"],
        "[stderr]\ninvalid argument \"=\" for \"-e, --env\" flag: invalid environment variable: =\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'docker run --help' for more information\n[exit 125]\n",
    );
    for command in ["build", "pull", "rmi", "ps", "load", "commit", "version"] {
        let outcome = strata().run(&[command, "--bogus"]);
        assert_eq!(outcome.code, 125, "{outcome}");
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let message = "\"bogus\": unknown operating system or architecture: invalid argument";
    for command in ["pull", "import"] {
        let outcome = strata().run(&[command, "--platform", "bogus", "a"]);
        assert!(outcome.stderr.contains(message), "{outcome}");
        assert_eq!(outcome.code, 1);
    }
    let strata = strata();
    strata.import_small("demo:1");
    let words = ["create", "--stop-signal", "FOO", "demo:1", "x"];
    let outcome = strata.run(&words);
    assert!(outcome.stderr.contains("invalid signal: FOO"), "{outcome}");
    let words = ["image", "inspect", "-f", "{{", "demo:1"];
    assert_eq!(strata.run(&words).code, 64);
}

#[test]
fn flags_of_docker_that_do_not_work_yet_are_refused_by_name() {
    let outcome = strata().run(&["run", "--privileged", "busybox"]);
    assert_eq!(outcome.code, 125);
    assert!(
        outcome
            .stderr
            .starts_with("--privileged is a flag of docker that strata does not support yet\n"),
        "{outcome}"
    );
}

#[test]
fn missing_and_surplus_arguments_are_refused_in_dockers_words() {
    check(
        &["rmi"],
        "[stderr]\ndocker: 'docker rmi' requires at least 1 argument\n\nUsage:  docker rmi [OPTIONS] IMAGE [IMAGE...]\n\nSee 'docker rmi --help' for more information\n[exit 1]\n",
    );
    check(
        &["run"],
        "[stderr]\ndocker: 'docker run' requires at least 1 argument\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nSee 'docker run --help' for more information\n[exit 1]\n",
    );
    check(
        &["tag", "a"],
        "[stderr]\ndocker: 'docker tag' requires 2 arguments\n\nUsage:  docker tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]\n\nRun 'docker tag --help' for more information\n[exit 1]\n",
    );
    check(
        &["load", "x"],
        "[stderr]\ndocker: 'docker load' accepts no arguments\n\nUsage:  docker load [OPTIONS]\n\nRun 'docker load --help' for more information\n[exit 1]\n",
    );
}

#[test]
fn help_names_the_aliases_and_every_flag() {
    check(
        &["tag", "--help"],
        "[stdout]\nUsage:  docker tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]\n\nCreate a tag TARGET_IMAGE that refers to SOURCE_IMAGE\n\nAliases:\n  docker image tag, docker tag\n[exit 0]\n",
    );
    let help = strata().run(&["help", "run"]).stdout();
    for flag in ["--rm", "-v, --volume list", "--network network"] {
        assert!(help.contains(flag), "{help}");
    }
    let main = strata().run(&[]).stdout();
    assert!(
        main.contains("  images      List images\n") || main.contains("images"),
        "{main}"
    );
}

#[test]
fn the_version_is_one_line() {
    let version = strata().run(&["--version"]).stdout();
    assert!(version.starts_with("strata version "), "{version}");
    let docker = strata().called("docker").run(&["-v"]).stdout();
    assert!(docker.starts_with("Docker version "), "{docker}");
    assert_eq!(docker.lines().count(), 1);
}

#[test]
fn malformed_names_keep_dockers_line_and_say_what_was_meant() {
    check(
        &["pull", "ubuntu:18:04"],
        "[stderr]\ninvalid reference format\ndid you mean ubuntu:18.04?\n[exit 1]\n",
    );
    check(
        &["run", "ubuntu:18:04"],
        "[stderr]\ndocker: invalid reference format\ndid you mean ubuntu:18.04?\n\nRun 'docker run --help' for more information\n[exit 125]\n",
    );
    check(
        &["pull", "Ubuntu"],
        "[stderr]\ninvalid reference format: repository name (library/Ubuntu) must be lowercase\ndid you mean ubuntu?\n[exit 1]\n",
    );
    check(
        &["build", "-t", "BAD:Tag", "."],
        "[stderr]\nERROR: failed to build: invalid tag \"BAD:Tag\": repository name must be lowercase\ndid you mean bad:Tag?\n[exit 1]\n",
    );
}
