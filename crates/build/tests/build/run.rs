//! RUN, which needs mounts and namespaces.

use std::sync::atomic::{AtomicBool, Ordering};

use build::{Event, Network};
use layer::Form;
use oci::ImageConfig;

use crate::bench::Bench;

#[test]
fn privileged_changes_of_a_step_become_its_layer() {
    for form in [Form::Erofs, Form::Tree] {
        let mut bench = Bench::with_busybox();
        bench.form = form;
        check_changes(&bench);
    }
}

fn check_changes(bench: &Bench) {
    let built = bench.build(
        "FROM base\nRUN echo hi > /made && chmod 600 /made && rm /etc/group && mkdir -p /a/b\n\
         RUN [\"/bin/sh\", \"-c\", \"cat /made > /copy\"]",
    );
    assert_eq!(bench.files(&built, "made"), ["f 600 0:0 made \"hi\\n\""]);
    assert_eq!(bench.files(&built, "copy"), ["f 644 0:0 copy \"hi\\n\""]);
    assert_eq!(bench.files(&built, "etc/group"), [""; 0]);
    assert_eq!(bench.files(&built, "a"), ["d 755 0:0 a", "d 755 0:0 a/b"]);
    for path in ["proc", "sys", "dev", "etc/hosts", "etc/resolv.conf"] {
        assert_eq!(bench.files(&built, path), [""; 0], "{path} is the engine's");
    }
}

#[test]
fn privileged_steps_see_environment_user_and_directory() {
    let bench = Bench::with_busybox();
    let built = bench.build(
        "FROM base\nARG A=arg\nENV E=env\nWORKDIR /w\nRUN chmod 777 /w\nUSER app\n\
         RUN echo $A $E $PWD $HOME $SOURCE_DATE_EPOCH-$(id -u):$(id -g) > out\n\
         RUN <<EOF\necho one > heredoc\necho two >> heredoc\nEOF\n\
         RUN <<EOF\n#!/bin/sh\necho $0 > script\nEOF",
    );
    let out = bench.files(&built, "w/out");
    assert!(
        out[0].starts_with("f 644 1000:1001 w/out \"arg env /w /home "),
        "{out:?}"
    );
    assert!(out[0].ends_with("-1000:1001\\n\""), "{out:?}");
    assert_eq!(
        bench.files(&built, "w/heredoc"),
        ["f 644 1000:1001 w/heredoc \"one\\ntwo\\n\""]
    );
    assert_eq!(
        bench.files(&built, "w/script"),
        ["f 644 1000:1001 w/script \"/dev/pipes/EOF\\n\""]
    );
}

#[test]
fn privileged_output_is_told_line_by_line_and_a_failure_with_its_code() {
    let bench = Bench::with_busybox();
    let options = bench.options("FROM base\nRUN echo one; echo two >&2; exit 7\n");
    let (result, events) = bench.run(&options);
    let error = result.map(|built| built.id).expect_err("fails");
    assert_eq!(
        error.to_string(),
        "process \"/bin/sh -c echo one; echo two >&2; exit 7\" did not complete successfully: \
         exit code: 7"
    );
    assert_eq!(
        error.step.as_deref(),
        Some("[2/2] RUN echo one; echo two >&2; exit 7")
    );
    let place = error.location.expect("a place");
    assert_eq!(place.line, 2);
    let mut lines: Vec<&str> = Vec::new();
    for event in &events {
        if let Event::Log { line, .. } = event {
            lines.push(line);
        }
    }
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn privileged_a_program_that_is_not_there_is_an_error() {
    let bench = Bench::with_busybox();
    let error = bench.fail("FROM base\nRUN [\"/nope\"]");
    let text = error.to_string();
    assert!(
        text.starts_with("process \"/nope\" did not complete successfully: "),
        "{text}"
    );
    bench.fail("FROM base\nUSER nobody\nRUN true");
}

#[test]
fn privileged_a_step_without_network_has_only_loopback() {
    let bench = Bench::with_busybox();
    let built = bench.build("FROM base\nRUN --network=none ls /sys/class/net > /net");
    assert_eq!(bench.files(&built, "net"), ["f 644 0:0 net \"lo\\n\""]);
    let mut options = bench.options("FROM base\nRUN cat /etc/hosts > /hosts");
    options.sandbox.network = Network::Host;
    let (built, _) = bench.run(&options);
    let hosts = bench.files(&built.expect("builds"), "hosts");
    assert!(
        hosts[0].contains("127.0.0.1\\tlocalhost buildkitsandbox"),
        "{hosts:?}"
    );
}

#[test]
fn privileged_a_step_sees_more_hosts_and_has_its_limits() {
    let bench = Bench::with_busybox();
    let text = "FROM base\nRUN grep more /etc/hosts > /out; ulimit -n >> /out; \
        dd if=/dev/zero of=/dev/shm/x bs=1024 count=100 2>&1 | grep -c 'No space' >> /out";
    let mut options = bench.options(text);
    let address = "10.1.2.3".parse().expect("an address");
    options.sandbox.hosts = vec![("more.example".to_owned(), address)];
    options.sandbox.limits = runtime::Limits {
        shm_size: 64 << 10,
        ulimits: vec!["nofile=77".parse().expect("a limit")],
    };
    let built = bench.run(&options).0.expect("builds");
    assert_eq!(
        bench.files(&built, "out"),
        ["f 644 0:0 out \"10.1.2.3\\tmore.example\\n77\\n1\\n\""]
    );
    assert_eq!(bench.run(&options).0.expect("builds").executed, 0);
    options.sandbox.limits.ulimits.clear();
    assert_eq!(bench.run(&options).0.expect("builds").executed, 1);
    options.sandbox.hosts.clear();
    assert_eq!(bench.run(&options).0.expect("builds").executed, 1);
}

#[test]
fn privileged_a_step_is_run_once_and_again_when_what_it_sees_changes() {
    let bench = Bench::with_busybox();
    let text =
        |arg: &str| format!("FROM base\nRUN echo {arg} > /ignored; rm /ignored\nRUN echo > /x");
    let first = bench.build(&text("1"));
    assert_eq!((first.executed, first.cached), (2, 0));
    assert_eq!(bench.build(&text("1")).executed, 0);
    let second = bench.build(&text("2"));
    assert_eq!(
        (second.executed, second.cached),
        (1, 1),
        "equal output keeps what follows"
    );
}

#[test]
fn privileged_stages_run_at_the_same_time() {
    let bench = Bench::with_busybox();
    let built = bench.build(
        "FROM base AS a\nRUN echo a > /a\nFROM base AS b\nRUN echo b > /b\nFROM base\n\
         COPY --from=a /a /\nCOPY --from=b /b /\nRUN cat /a /b > /c",
    );
    assert_eq!(bench.files(&built, "c"), ["f 644 0:0 c \"a\\nb\\n\""]);
}

#[test]
fn privileged_a_canceled_build_ends_its_step() {
    let bench = Bench::with_busybox();
    let options = bench.options("FROM base\nRUN echo started; sleep 1000");
    let cancel = AtomicBool::new(false);
    let result = bench.run_with(&options, &cancel, &|event| {
        if matches!(event, Event::Log { .. }) {
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let error = result.map(|built| built.id).expect_err("fails");
    assert_eq!(error.to_string(), "context canceled");
}

#[test]
fn privileged_triggers_and_twelve_instructions() {
    let mut bench = Bench::with_busybox();
    let parent = bench.build("FROM base\nONBUILD COPY app /src/\nONBUILD RUN cat /src/app > /made");
    bench.base("parent", &parent);
    bench.write("app", "source");
    let built = bench.build(
        "FROM parent\nLABEL a=1 b=\"two words\"\nENV LANG=C.UTF-8\nWORKDIR /app\nCOPY app .\n\
         RUN cat app > copy\nEXPOSE 8080 9000/udp\nVOLUME /data\n\
         HEALTHCHECK --interval=5s --timeout=1s --retries=2 CMD test -f /app/copy\n\
         STOPSIGNAL SIGINT\nUSER 1000:1000\nENTRYPOINT [\"/bin/echo\"]\nCMD [\"hello\"]",
    );
    assert_eq!(bench.files(&built, "made"), ["f 644 0:0 made \"source\""]);
    let config: ImageConfig = bench.config(&built);
    let history: Vec<&str> = config
        .history
        .iter()
        .map(|h| h.created_by.as_str())
        .collect();
    assert_eq!(
        history,
        [
            "",
            "COPY app /src/ # buildkit",
            "RUN /bin/sh -c cat /src/app > /made # buildkit",
            "LABEL a=1 b=two words",
            "ENV LANG=C.UTF-8",
            "WORKDIR /app",
            "COPY app . # buildkit",
            "RUN /bin/sh -c cat app > copy # buildkit",
            "EXPOSE [8080/tcp 9000/udp]",
            "VOLUME [/data]",
            "HEALTHCHECK &{[\"CMD-SHELL\" \"test -f /app/copy\"] \"5s\" \"1s\" \"0s\" \"0s\" '\\x02'}",
            "STOPSIGNAL SIGINT",
            "USER 1000:1000",
            "ENTRYPOINT [\"/bin/echo\"]",
            "CMD [\"hello\"]",
        ]
    );
    let layers = config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .count();
    assert_eq!(layers, config.rootfs.diff_ids.len());
    assert!(config.history.iter().all(|entry| entry.created.is_some()));
    assert_eq!(config.config.on_build, [""; 0]);
    assert_eq!(config.config.user, "1000:1000");
}
