//! What a user sees when a build fails: what is wrong in docker's words, where, and what to do.

use std::collections::BTreeSet;

use build::{BuildError, LowerError, PlanError, SolveError};

use crate::bench::Bench;

/// Makes the list of an enum's variants and a function that names a value's. The compiler
/// misses a variant that is not listed, the tests one that has no case.
macro_rules! variants {
    ($enum:ident, $list:ident, $name:ident: $($variant:ident)*) => {
        const $list: &[&str] = &[$(stringify!($variant)),*];

        fn $name(value: &$enum) -> &'static str {
            match value {
                $($enum::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

variants!(PlanError, PLAN_ERRORS, plan_error:
    Expand BlankBase InvalidBase EmptyPlatform InvalidPlatform TargetNotFound InvalidStageIndex
    VariableInFrom LaterStage
);
variants!(LowerError, LOWER_ERRORS, lower_error:
    Plan Expand Trigger Mount MountTarget Port BaseImage InvalidMode ChecksumOfMany
    ChecksumOfLocal InvalidChecksum UrlInCopy GitInCopy Git EmptyVolume InvalidSignal Unsupported
);

/// The Dockerfile, the message, the line and the column, and the hint.
type Case = (&'static str, &'static str, (usize, usize), &'static str);

const CASES: [Case; 34] = [
    (
        "FROM base\nRUNN x\n",
        "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        (2, 1),
        "write `RUN`",
    ),
    (
        "FROM base\nCOPY nope .\n",
        "failed to compute cache key: failed to calculate checksum of ref context: \"/nope\": not found",
        (2, 6),
        "",
    ),
    (
        "ARG A\nFROM base:${A\n",
        "failed to process \"base:${A\": syntax error: missing '}'",
        (2, 6),
        "close `${` with `}`",
    ),
    (
        "ARG B=${A:?no}\nFROM base\n",
        "failed to process \"${A:?no}\": A: no",
        (1, 7),
        "give it a value: `--build-arg A=…`, or `ARG A=…` above",
    ),
    (
        "FROM ${NOTHING}\n",
        "base name (${NOTHING}) should not be blank",
        (1, 6),
        "give its arguments values: `ARG <name>=<value>` before the first FROM, or `--build-arg`",
    ),
    (
        "FROM base AS one\nFROM One\n",
        "failed to parse stage name \"One\": invalid reference format: repository name (library/One) must be lowercase",
        (2, 6),
        "names have no capital letters: write `one`",
    ),
    (
        "FROM base:a:b\n",
        "failed to parse stage name \"base:a:b\": invalid reference format",
        (1, 6),
        "write `[<registry>/]<name>[:<tag>]`, or the name of a stage",
    ),
    (
        "FROM --platform=$P base\n",
        "empty platform value from expression $P",
        (1, 17),
        "write a platform such as linux/amd64 or linux/arm/v7, or leave it out",
    ),
    (
        "FROM --platform=vax base\n",
        "failed to parse platform vax: \"vax\": unknown operating system or architecture: invalid argument",
        (1, 17),
        "write a platform such as linux/amd64 or linux/arm/v7, or leave it out",
    ),
    (
        "FROM base\nCOPY --from=9 a b\n",
        "invalid stage index 9",
        (2, 13),
        "stages are counted from 0, and none stands before this one",
    ),
    (
        "FROM base AS a\nFROM base AS b\nCOPY --from=7 a b\n",
        "invalid stage index 7",
        (3, 13),
        "stages are counted from 0: write at most 0, or the name of a stage",
    ),
    (
        "FROM base\n  COPY --from=$X a b\n",
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        (2, 15),
        "write `FROM $NAME AS source` above, with `ARG NAME` before the first FROM, and `source` here",
    ),
    (
        "FROM base AS a\nCOPY --from=b x y\nFROM a AS b\nRUN x\nFROM a\nCOPY --from=b x y\n",
        "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        (2, 13),
        "move the stage `b` above this one",
    ),
    (
        "FROM base AS a\nCOPY --from=nosuch:UP x y\n",
        "nosuch:UP: failed to resolve source metadata for docker.io/library/nosuch:UP: not found",
        (2, 13),
        "check the name, the network and `login`; `images` lists the images that are here",
    ),
    (
        "FROM base\nENV A=b C=${A\n",
        "failed to process \"${A\": syntax error: missing '}'",
        (2, 11),
        "close `${` with `}`",
    ),
    (
        "FROM base\nRUN --mount=type=bind,target=/a,ro=perhaps x\n",
        "invalid value for ro: perhaps",
        (2, 36),
        "write true or false",
    ),
    (
        "FROM base\nRUN --mount=type=tmpfs,target=/ x\n",
        "invalid mount target \"/\"",
        (2, 13),
        "mount at a directory below `/`",
    ),
    (
        "FROM base\nEXPOSE 80 443/http\n",
        "invalid port: \"443/http\": invalid proto: http",
        (2, 15),
        "the protocols are tcp, udp and sctp",
    ),
    (
        "FROM missing\n",
        "missing: failed to resolve source metadata for docker.io/library/missing:latest: not found",
        (1, 6),
        "check the name, the network and `login`; `images` lists the images that are here",
    ),
    (
        "FROM base AS build\nFROM scratch\nCOPY --from=biuld /a /b\n",
        "biuld: failed to resolve source metadata for docker.io/library/biuld:latest: not found (did you mean build?)",
        (3, 13),
        "write `build`, if that is what you mean",
    ),
    (
        "FROM base\nCOPY --chmod=999 a b\n",
        "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777",
        (2, 14),
        "write an octal mode such as 0644, or changes such as u+x,go-w",
    ),
    (
        "FROM base\nADD --checksum=sha256:aa a b c\n",
        "checksum can't be specified for multiple sources",
        (2, 5),
        "write one `ADD --checksum` for each source",
    ),
    (
        "FROM base\nADD --checksum=sha256:aa a b\n",
        "checksum requires HTTP(S) or Git sources",
        (2, 5),
        "leave `--checksum` out: it is for what is downloaded",
    ),
    (
        "FROM base\nADD --checksum=sha256:aa https://h/a b\n",
        "invalid checksum digest length",
        (2, 5),
        "write `sha256:` and 64 hex digits",
    ),
    (
        "FROM base\nCOPY https://h/a b\n",
        "source can't be a URL for COPY",
        (2, 6),
        "write `ADD` for a URL",
    ),
    (
        "FROM base\nCOPY https://h/a.git b\n",
        "source can't be a git ref for COPY",
        (2, 6),
        "write `ADD` for a git repository",
    ),
    (
        "FROM base\nADD https://h/a.git?depth=1 b\n",
        "unexpected query \"depth\"",
        (2, 21),
        "it may have ref, tag, branch, subdir, commit, checksum, keep-git-dir, submodules",
    ),
    (
        "FROM base\nVOLUME $NOTHING\n",
        "VOLUME specified can not be an empty string",
        (2, 1),
        "write the directory, or give its variables values",
    ),
    (
        "FROM base\nSTOPSIGNAL SIGNOTHING\n",
        "invalid signal: SIGNOTHING",
        (2, 12),
        "write a name such as SIGTERM, or a number from 1 to 64",
    ),
    (
        "FROM base\nRUN --security=insecure \\\n  true\n",
        "RUN --security=insecure is not supported by strata build",
        (2, 5),
        "docs/dockerfile.md lists what is not supported yet",
    ),
    (
        "FROM base\nRUN --device=v/c=1 true\n",
        "RUN --device=v/c=1 is not supported by strata build",
        (2, 5),
        "docs/dockerfile.md lists what is not supported yet",
    ),
    (
        "FROM bad-trigger\n",
        "dockerfile parse error on line 1: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        (1, 1),
        "an `ONBUILD` of the base image is wrong: write `COPY <source>… <destination>`",
    ),
    (
        "# check=skip=all;x=y\nFROM base\n",
        "failed to parse check options: invalid check option \"x\"",
        (1, 9),
        "write `# check=skip=<rule>,<rule>;error=true`",
    ),
    (
        "FROM from-trigger\n",
        "invalid stage index 9",
        (1, 1),
        "stages are counted from 0, and none stands before this one",
    ),
];

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.image("base", &[], |_| {});
    for (name, trigger) in [
        ("bad-trigger", "COPY a"),
        ("from-trigger", "COPY --from=9 a b"),
    ] {
        bench.image(name, &[], |config| {
            config.config.on_build = vec![trigger.to_owned()];
        });
    }
    bench
}

fn fail_at(bench: &Bench, text: &str, target: Option<&str>) -> BuildError {
    let mut options = bench.options(text);
    options.target = target.map(str::to_owned);
    let (result, _) = bench.run(&options);
    result.map(|built| built.id).expect_err(text)
}

#[test]
fn every_error_of_a_dockerfile_has_its_words_its_place_and_a_hint() {
    let bench = bench();
    let (mut plan, mut lower) = (BTreeSet::new(), BTreeSet::new());
    let mut note = |error: &BuildError| match &*error.error {
        SolveError::Plan(error) => plan.extend([plan_error(error)]),
        SolveError::Lower(error) => lower.extend([lower_error(error)]),
        _ => {}
    };
    for (text, message, (line, column), hint) in CASES {
        let error = bench.fail(text);
        assert_eq!(error.to_string(), message, "{text}");
        let place = error.location.as_ref().expect("a place");
        assert_eq!(place.file, "Dockerfile");
        assert_eq!((place.line, place.column), (line, column), "{text}");
        let marked = format!(" {line:3} | >>> ");
        assert!(place.excerpt.contains(&marked), "{}", place.excerpt);
        assert_eq!(error.hint().unwrap_or_default(), hint, "{text}");
        note(&error);
    }
    for (text, target, message, hint) in [
        (
            "FROM base AS build\nFROM base AS test",
            "biuld",
            "target stage \"biuld\" could not be found (did you mean build?)",
            "the stages are build, test",
        ),
        (
            "FROM base",
            "nope",
            "target stage \"nope\" could not be found",
            "no stage has a name: write `FROM <image> AS <name>`, or a number from 0",
        ),
    ] {
        let error = fail_at(&bench, text, Some(target));
        assert_eq!(error.to_string(), message);
        assert_eq!(error.location, None);
        assert_eq!(error.hint().as_deref(), Some(hint));
        note(&error);
    }
    assert_eq!(plan, PLAN_ERRORS.iter().copied().collect());
    assert_eq!(lower, LOWER_ERRORS.iter().copied().collect());
}

#[test]
fn a_malformed_dockerignore_says_which_line() {
    let bench = bench();
    bench.write(".dockerignore", "# all\n*.o\n[z-a]\n");
    let error = bench.fail("FROM base\n");
    assert_eq!(
        error.to_string(),
        "failed to parse .dockerignore: syntax error in pattern `[z-a]`"
    );
    let hint = error.hint().expect("a hint");
    assert!(
        hint.starts_with("line 3: close `[`, begin a range"),
        "{hint}"
    );
}

#[test]
fn nothing_is_tagged_when_a_step_fails() {
    let bench = Bench::new();
    bench.fail("FROM scratch\nCOPY nope /");
    assert!(bench.store.images().expect("readable").is_empty());
}
