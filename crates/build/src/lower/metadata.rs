//! Instructions that only change the configuration. Each is a function on it that returns the
//! text of its history entry, in BuildKit's form.

use dockerfile::{Command, Healthcheck, HealthcheckTest};
use oci::{Empty, ImageConfig, RunConfig};

use super::gofmt;

/// The shell of shell-form instructions when `SHELL` does not name one.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Returns the words that a command runs: exec form as it is, shell form behind the shell.
pub(super) fn command_line(config: &RunConfig, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(line) => {
            let mut words = match &config.shell {
                Some(shell) if !shell.is_empty() => shell.clone(),
                _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
            };
            words.push(line.clone());
            words
        }
    }
}

/// `CMD`.
pub(super) fn cmd(config: &mut RunConfig, command: &Command) -> String {
    let words = command_line(config, command);
    let text = format!("CMD {}", gofmt::quote_all(&words));
    config.cmd = Some(words);
    // BuildKit sets it on every system; only Windows looks at it.
    config.args_escaped = true;
    text
}

/// Whether the stage has a `CMD` of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CmdOrigin {
    /// None, or that of the base.
    Inherited,
    /// Set in this stage.
    Stage,
}

/// `ENTRYPOINT`; a `CMD` of the base goes with the entrypoint of the base.
pub(super) fn entrypoint(config: &mut RunConfig, command: &Command, cmd: CmdOrigin) -> String {
    let words = command_line(config, command);
    let text = format!("ENTRYPOINT {}", gofmt::quote_all(&words));
    config.entrypoint = Some(words);
    if cmd == CmdOrigin::Inherited {
        config.cmd = None;
    }
    text
}

/// `ENV`.
pub(super) fn env(config: &mut RunConfig, pairs: &[(String, String)]) -> String {
    let mut text = String::from("ENV");
    for (name, value) in pairs {
        let assignment = format!("{name}={value}");
        text.push(' ');
        text.push_str(&assignment);
        set_env(&mut config.env, name, assignment);
    }
    text
}

fn set_env(env: &mut Vec<String>, name: &str, assignment: String) {
    let same = |other: &&mut String| other.split('=').next() == Some(name);
    match env.iter_mut().find(same) {
        Some(old) => *old = assignment,
        None => env.push(assignment),
    }
}

/// `LABEL`.
pub(super) fn label(config: &mut RunConfig, pairs: &[(String, String)]) -> String {
    let mut text = String::from("LABEL");
    for (name, value) in pairs {
        text.push_str(&format!(" {name}={value}"));
        config.labels.insert(name.clone(), value.clone());
    }
    text
}

/// `EXPOSE`, its ports normalized.
pub(super) fn expose(config: &mut RunConfig, ports: &[String]) -> String {
    let entries = ports.iter().map(|port| (port.clone(), Empty {}));
    config.exposed_ports.extend(entries);
    format!("EXPOSE {}", gofmt::list(ports))
}

/// `VOLUME`.
pub(super) fn volume(config: &mut RunConfig, paths: &[String]) -> String {
    let entries = paths.iter().map(|path| (path.clone(), Empty {}));
    config.volumes.extend(entries);
    format!("VOLUME {}", gofmt::list(paths))
}

/// `USER`.
pub(super) fn user(config: &mut RunConfig, user: &str) -> String {
    user.clone_into(&mut config.user);
    format!("USER {user}")
}

/// `STOPSIGNAL`.
pub(super) fn stop_signal(config: &mut RunConfig, signal: &str) -> String {
    signal.clone_into(&mut config.stop_signal);
    format!("STOPSIGNAL {signal}")
}

/// `SHELL`.
pub(super) fn shell(config: &mut RunConfig, shell: &[String]) -> String {
    config.shell = Some(shell.to_vec());
    format!("SHELL {}", gofmt::list(shell))
}

/// `MAINTAINER`.
pub(super) fn maintainer(config: &mut ImageConfig, maintainer: &str) -> String {
    maintainer.clone_into(&mut config.author);
    format!("MAINTAINER {maintainer}")
}

/// `HEALTHCHECK`. The text is what Go's `%q` makes of a pointer to the structure.
pub(super) fn healthcheck(config: &mut RunConfig, check: &Healthcheck) -> String {
    let test = match &check.test {
        HealthcheckTest::None => vec!["NONE".to_owned()],
        HealthcheckTest::Cmd(Command::Shell(line)) => vec!["CMD-SHELL".to_owned(), line.clone()],
        HealthcheckTest::Cmd(Command::Exec(words)) => {
            let mut test = vec!["CMD".to_owned()];
            test.extend_from_slice(words);
            test
        }
    };
    let quoted = |nanoseconds| gofmt::quote(&gofmt::duration(nanoseconds));
    let text = format!(
        "HEALTHCHECK &{{{} {} {} {} {} {}}}",
        gofmt::quote_all(&test),
        quoted(check.interval),
        quoted(check.timeout),
        quoted(check.start_period),
        quoted(check.start_interval),
        gofmt::quote_integer(check.retries),
    );
    config.healthcheck = Some(oci::Healthcheck {
        test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    });
    text
}

/// Returns what a configuration says after `WORKDIR path`: as docker does, an absolute path stays
/// as it is written.
pub(super) fn configured_directory(current: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => working_directory(current, path),
    }
}

/// Returns the directory that `WORKDIR path` means when `current` is the one before.
pub(crate) fn working_directory(current: &str, path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{current}/{path}")
    };
    clean(&joined)
}

/// Returns an absolute path without `.`, `..` and repeated slashes, as Go's `path.Clean` of it.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn history_texts_are_buildkits() {
        let mut config = ImageConfig::default();
        let run = &mut config.config;
        let pairs = [
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("APP".to_owned(), "a b".to_owned()),
        ];
        assert_eq!(env(run, &pairs), "ENV LANG=C.UTF-8 APP=a b");
        assert_eq!(label(run, &pairs[..1]), "LABEL LANG=C.UTF-8");
        assert_eq!(
            expose(run, &words(&["8080/tcp", "9000/udp"])),
            "EXPOSE [8080/tcp 9000/udp]"
        );
        assert_eq!(volume(run, &words(&["/data"])), "VOLUME [/data]");
        assert_eq!(user(run, "1000:1000"), "USER 1000:1000");
        assert_eq!(stop_signal(run, "SIGINT"), "STOPSIGNAL SIGINT");
        let echo = Command::Exec(words(&["/bin/echo"]));
        assert_eq!(
            entrypoint(run, &echo, CmdOrigin::Inherited),
            r#"ENTRYPOINT ["/bin/echo"]"#
        );
        let hello = Command::Shell("echo hi".to_owned());
        assert_eq!(cmd(run, &hello), r#"CMD ["/bin/sh" "-c" "echo hi"]"#);
        assert_eq!(
            shell(run, &words(&["/bin/bash", "-c"])),
            "SHELL [/bin/bash -c]"
        );
        assert_eq!(cmd(run, &hello), r#"CMD ["/bin/bash" "-c" "echo hi"]"#);
        let check = Healthcheck {
            test: HealthcheckTest::Cmd(Command::Shell("test -f /app/index.js".to_owned())),
            interval: 5_000_000_000,
            timeout: 1_000_000_000,
            start_period: 0,
            start_interval: 0,
            retries: 2,
        };
        assert_eq!(
            healthcheck(run, &check),
            r#"HEALTHCHECK &{["CMD-SHELL" "test -f /app/index.js"] "5s" "1s" "0s" "0s" '\x02'}"#
        );
        assert_eq!(maintainer(&mut config, "me"), "MAINTAINER me");
        assert_eq!(config.author, "me");
    }

    #[test]
    fn an_entrypoint_resets_only_an_inherited_cmd() {
        let echo = Command::Exec(words(&["echo"]));
        for (origin, expected) in [
            (CmdOrigin::Inherited, None),
            (CmdOrigin::Stage, Some(words(&["x"]))),
        ] {
            let mut run = RunConfig {
                cmd: Some(words(&["x"])),
                ..RunConfig::default()
            };
            entrypoint(&mut run, &echo, origin);
            assert_eq!(run.cmd, expected);
        }
    }

    #[test]
    fn env_replaces_in_place() {
        let mut run = RunConfig {
            env: words(&["PATH=/bin", "A=1"]),
            ..RunConfig::default()
        };
        env(&mut run, &[("PATH".to_owned(), "/x".to_owned())]);
        assert_eq!(run.env, words(&["PATH=/x", "A=1"]));
    }

    #[test]
    fn relative_working_directories_join() {
        for (current, path, expected) in [
            ("/", "app", "/app"),
            ("/app", "src", "/app/src"),
            ("/app", "/x/", "/x"),
            ("/app", "../..", "/"),
            ("", "a//b/.", "/a/b"),
        ] {
            assert_eq!(working_directory(current, path), expected);
        }
    }
}
