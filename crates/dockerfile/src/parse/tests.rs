//! Instructions and errors are those of BuildKit.

use super::*;
use crate::{Command, Form, HealthcheckTest, Program, RunNetwork, RunSecurity};

fn instruction(text: &str) -> Instruction {
    let dockerfile = parse(format!("FROM a\n{text}").as_bytes()).expect("valid");
    let [stage] = <[Stage; 1]>::try_from(dockerfile.stages).expect("one stage");
    let [instruction] = <[_; 1]>::try_from(stage.instructions).expect("one instruction");
    instruction.value
}

fn program(text: &str) -> Program {
    match instruction(text) {
        Instruction::Run(run) => run.program(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stages_have_names_bases_and_platforms() {
    let text = "ARG V=1\n# build makes it\nFROM --platform=$BUILDPLATFORM go:$V AS Build\nRUN x\nfrom build\nARG y z=\n";
    let dockerfile = parse(text.as_bytes()).expect("valid");
    let arg = &dockerfile.global_args[0].value.definitions[0];
    assert_eq!(
        (arg.name.as_str(), arg.default.as_deref()),
        ("V", Some("1"))
    );
    let [first, second] = dockerfile.stages.as_slice() else {
        panic!("{dockerfile:?}");
    };
    assert_eq!(first.name.as_deref(), Some("build"));
    assert_eq!(first.base, "go:$V");
    assert_eq!(first.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(first.description.as_deref(), Some("makes it"));
    assert_eq!((second.base.as_str(), second.span.start), ("build", 5));
    let Instruction::Arg(arg) = &second.instructions[0].value else {
        panic!("{second:?}");
    };
    let defaults: Vec<_> = arg
        .definitions
        .iter()
        .map(|d| d.default.as_deref())
        .collect();
    assert_eq!(defaults, [None, Some("")]);
}

#[test]
fn run_programs_are_those_of_buildkit() {
    let shell = |text: &str| Program::Shell(text.to_owned());
    assert_eq!(program("RUN make all"), shell("make all"));
    assert_eq!(program("RUN"), shell(""));
    assert_eq!(
        program("RUN [\"a\", \"b\"]"),
        Program::Exec(vec!["a".into(), "b".into()])
    );
    assert_eq!(program("RUN ['a', 'b']"), shell("['a', 'b']"));
    assert_eq!(program("RUN <<-EOF\n\techo $x\n\tEOF"), shell("echo $x\n"));
    assert_eq!(
        program("RUN <<EOF bash\necho 1\nEOF"),
        shell("<<EOF bash\necho 1\nEOF")
    );
    assert_eq!(
        program("RUN cat <<A - <<B\n1\nA\n2\nB"),
        shell("cat <<A - <<B\n1\nA\n2\nB")
    );
    assert_eq!(
        program("RUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF"),
        Program::Script {
            name: "EOF".to_owned(),
            content: "#!/usr/bin/env python3\nprint(1)\n".to_owned(),
        }
    );
}

#[test]
fn run_takes_its_flags() {
    let text = "RUN --mount=type=cache,target=/c --mount=from=b,target=/b --network=none --security=insecure x";
    let Instruction::Run(run) = instruction(text) else {
        panic!("no run");
    };
    assert_eq!(run.command, Command::Shell("x".to_owned()));
    assert_eq!(
        (run.network, run.security),
        (RunNetwork::None, RunSecurity::Insecure)
    );
    let from: Vec<_> = run.mounts.iter().map(|mount| mount.from()).collect();
    assert_eq!(from, [None, Some("b")]);
}

#[test]
fn copy_and_add_take_paths_flags_and_heredocs() {
    let text =
        "COPY --from=0 --chown=a:b --chmod=755 --link --parents --exclude=*.o --exclude=x a b /d/";
    let Instruction::Copy(copy) = instruction(text) else {
        panic!("no copy");
    };
    assert_eq!(copy.sources, ["a", "b"]);
    assert_eq!(copy.destination, "/d/");
    assert_eq!(copy.from.as_deref(), Some("0"));
    assert_eq!(
        (copy.chown.as_deref(), copy.chmod.as_deref()),
        (Some("a:b"), Some("755"))
    );
    assert!(copy.link && copy.parents);
    assert_eq!(copy.exclude, ["*.o", "x"]);

    let text = "ADD --checksum=sha256:1 --keep-git-dir=false --unpack a <<f.txt <<-'g' /d\n$x\nf.txt\n\t$y\ng";
    let Instruction::Add(add) = instruction(text) else {
        panic!("no add");
    };
    assert_eq!(add.sources, ["a"]);
    assert_eq!((add.keep_git_dir, add.unpack), (Some(false), Some(true)));
    assert_eq!(add.checksum.as_deref(), Some("sha256:1"));
    let contents: Vec<_> = add
        .contents
        .iter()
        .map(|file| (file.path.as_str(), file.data.as_str(), file.expand))
        .collect();
    assert_eq!(contents, [("f.txt", "$x\n", true), ("g", "$y\n", false)]);

    let Instruction::Copy(copy) = instruction("COPY [\"a b\", \"c d\"]") else {
        panic!("no copy");
    };
    assert_eq!(
        (copy.sources, copy.destination),
        (vec!["a b".to_owned()], "c d".to_owned())
    );
}

#[test]
fn the_other_instructions_keep_their_words() {
    let exec = |words: &[&str]| Command::Exec(words.iter().map(ToString::to_string).collect());
    assert_eq!(
        instruction("CMD a b"),
        Instruction::Cmd(Command::Shell("a b".into()))
    );
    assert_eq!(
        instruction("ENTRYPOINT [\"a\"]"),
        Instruction::Entrypoint(exec(&["a"]))
    );
    assert_eq!(
        instruction("ENTRYPOINT []"),
        Instruction::Entrypoint(exec(&[]))
    );
    assert_eq!(
        instruction("WORKDIR /a b"),
        Instruction::Workdir("/a b".into())
    );
    assert_eq!(instruction("USER a:b"), Instruction::User("a:b".into()));
    assert_eq!(
        instruction("STOPSIGNAL 9"),
        Instruction::StopSignal("9".into())
    );
    assert_eq!(
        instruction("MAINTAINER a b"),
        Instruction::Maintainer("a b".into())
    );
    assert_eq!(
        instruction("VOLUME /a /b"),
        Instruction::Volume(vec!["/a".into(), "/b".into()])
    );
    assert_eq!(
        instruction("EXPOSE 90 80/udp"),
        Instruction::Expose(vec!["80/udp".into(), "90".into()])
    );
    assert_eq!(
        instruction("SHELL [\"sh\", \"-c\"]"),
        Instruction::Shell(vec!["sh".into(), "-c".into()])
    );
    assert_eq!(
        instruction("onbuild  COPY <<a /b\n1\na"),
        Instruction::OnBuild("COPY <<a /b\n1\na".into())
    );
    let Instruction::Env(pairs) = instruction("ENV a=\"b c\" d=e\\ f") else {
        panic!("no env");
    };
    let pairs: Vec<_> = pairs
        .iter()
        .map(|p| (p.key.as_str(), p.value.as_str(), p.form))
        .collect();
    assert_eq!(
        pairs,
        [
            ("a", "\"b c\"", Form::Assignment),
            ("d", "e\\ f", Form::Assignment)
        ]
    );
    let Instruction::Label(pairs) = instruction("LABEL a  b  c") else {
        panic!("no label");
    };
    assert_eq!(
        (pairs[0].value.as_str(), pairs[0].form),
        ("b  c", Form::Legacy)
    );
}

#[test]
fn health_checks_have_go_durations() {
    let text = "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=5s --start-interval=100ms --retries=2 CMD a b";
    let Instruction::Healthcheck(check) = instruction(text) else {
        panic!("no health check");
    };
    assert_eq!(
        check.test,
        HealthcheckTest::Cmd(Command::Shell("a b".into()))
    );
    assert_eq!(
        (check.interval, check.timeout),
        (90_000_000_000, 3_000_000_000)
    );
    assert_eq!(
        (check.start_period, check.start_interval),
        (5_000_000_000, 100_000_000)
    );
    assert_eq!(check.retries, 2);
    let Instruction::Healthcheck(check) = instruction("HEALTHCHECK none") else {
        panic!("no health check");
    };
    assert_eq!(check.test, HealthcheckTest::None);
}

#[test]
fn triggers_are_one_instruction_each() {
    let trigger = parse_trigger("COPY . /x").expect("valid");
    assert!(matches!(trigger.value, Instruction::Copy(_)));
    for (text, expected) in [
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        (
            "ONBUILD RUN x",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("FOOBAR", "unknown instruction: FOOBAR"),
    ] {
        let error = parse_trigger(text).expect_err(text).to_string();
        assert_eq!(
            error,
            format!("dockerfile parse error on line 1: {expected}")
        );
    }
    let error = parse_trigger("RUN a\nRUN b")
        .expect_err("two instructions")
        .to_string();
    assert_eq!(error, "onbuild trigger should be a single expression");
}

#[test]
fn lines_have_a_limit_and_an_encoding() {
    let long = format!("FROM a\nRUN {}", "x".repeat(70_000));
    let error = parse(long.as_bytes()).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "dockerfile line greater than max allowed size of 65535"
    );
    assert_eq!(error.line, 2);
    let error = parse(b"FROM a\nRUN \xff").expect_err("no UTF-8");
    assert_eq!(
        (error.to_string().as_str(), error.line),
        ("line is not valid UTF-8", 2)
    );
    assert!(parse(b"# \xff latin-1\nFROM a\n").is_ok());
}
