//! Every error says what is wrong in BuildKit's words, where, and what to do.

use std::collections::BTreeSet;

use crate::expand::{self, ExpandError, ExpandErrorKind};
use crate::ignore::Patterns;
use crate::matching::PatternError;
use crate::port::{self, PortError};
use crate::{DeviceError, DurationError, MountError, MountFlag, ParseError, ParseErrorKind, parse};

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

variants!(ParseErrorKind, PARSE_ERRORS, parse_error:
    Empty NoInstructions NoStages NoCurrentStage LineTooLong NotUtf8 RepeatedDirective InvalidEscape
    UnterminatedHeredoc HeredocName NotStringArray TwoArguments MissingEquals UnknownInstruction
    UnknownFlag DuplicateFlag FlagWithoutValue FlagNotBoolean AtLeastOneArgument
    ExactlyOneArgument NoDestination HeredocDestination BlankName FromArguments StageName
    OnBuildChain OnBuildTrigger TriggerCount HealthcheckNone HealthcheckCommand HealthcheckType
    Duration Interval Retries NegativeRetries EmptyVolume ShellForm Network Security Mount Device
);
variants!(DurationError, DURATION_ERRORS, duration_error: Invalid MissingUnit UnknownUnit);
variants!(DeviceError, DEVICE_ERRORS, device_error: Quotes NotAPair Renamed Required UnexpectedKey);
variants!(MountError, MOUNT_ERRORS, mount_error:
    Expand Quotes NotAPair FromVariable UnexpectedKey KeyOfOtherType UnsupportedType
    UnsupportedSharing InvalidValue InvalidNumber OwnershipNotAllowed SecretFrom SecretSharing
    SecretWithoutName SecretWithTwoNames SharingNotAllowed
);
variants!(ExpandErrorKind, EXPAND_ERRORS, expand_error:
    UnclosedQuote MissingBrace MissingSlash BadSubstitution UnsupportedModifier Required
    InvalidPattern TooDeep
);
variants!(PortError, PORT_ERRORS, port_error:
    Missing Protocol ContainerPort HostPort Address Ranges
);
variants!(PatternError, PATTERN_ERRORS, pattern_error: Syntax LoneExclamation);

fn check_coverage(list: &[&'static str], seen: BTreeSet<&'static str>) {
    assert_eq!(seen, list.iter().copied().collect());
}

/// The text, the message, the line, the column and the hint.
type Case = (&'static str, &'static str, u32, u32, &'static str);

const CASES: [Case; 62] = [
    (
        "FROM a\nRUNN x",
        "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        2,
        1,
        "write `RUN`",
    ),
    (
        "FROM a\n  cpy x",
        "dockerfile parse error on line 2: unknown instruction: cpy (did you mean copy?)",
        2,
        3,
        "write `copy`",
    ),
    (
        "FROM a\n&& make",
        "dockerfile parse error on line 2: unknown instruction: &&",
        2,
        1,
        "if this line goes on with the one before it, end that line with `\\`",
    ),
    (
        "FROM a\nCOPY --form=a b c",
        "dockerfile parse error on line 2: unknown flag: --form (did you mean from?)",
        2,
        6,
        "write `--from`",
    ),
    (
        "FROM a\nWORKDIR --x /a",
        "dockerfile parse error on line 2: unknown flag: --x",
        2,
        9,
        "flags of the instruction stand before its arguments; `--` ends them",
    ),
    (
        "FROM a\nCOPY \\\n  --from=a --from=b c d",
        "dockerfile parse error on line 2: duplicate flag specified: --from",
        3,
        3,
        "leave one of the two out",
    ),
    (
        "FROM a\nCOPY --from a b",
        "dockerfile parse error on line 2: missing a value on flag: --from",
        2,
        6,
        "write `--from=<value>`",
    ),
    (
        "FROM a\nCOPY --link= a b",
        "dockerfile parse error on line 2: missing a value on flag: --link",
        2,
        6,
        "write `--link=<value>`",
    ),
    (
        "FROM a\nCOPY --link=x a b",
        "dockerfile parse error on line 2: expecting boolean value for flag --link, not: x",
        2,
        6,
        "write `--link`, `--link=true` or `--link=false`",
    ),
    (
        "FROM a\nENV",
        "dockerfile parse error on line 2: ENV requires at least one argument",
        2,
        1,
        "write `ENV <name>=<value>`",
    ),
    (
        "FROM a\nLABEL",
        "dockerfile parse error on line 2: LABEL requires at least one argument",
        2,
        1,
        "write `LABEL <name>=<value>`",
    ),
    (
        "FROM a\nONBUILD",
        "dockerfile parse error on line 2: ONBUILD requires at least one argument",
        2,
        1,
        "write `ONBUILD <instruction>`",
    ),
    (
        "FROM a\nHEALTHCHECK",
        "dockerfile parse error on line 2: HEALTHCHECK requires at least one argument",
        2,
        1,
        "write `HEALTHCHECK [options] CMD <command>` or `HEALTHCHECK NONE`",
    ),
    (
        "FROM a\nEXPOSE",
        "dockerfile parse error on line 2: EXPOSE requires at least one argument",
        2,
        1,
        "write `EXPOSE <port>[/<protocol>]`",
    ),
    (
        "FROM a\nVOLUME",
        "dockerfile parse error on line 2: VOLUME requires at least one argument",
        2,
        1,
        "write `VOLUME <directory>`",
    ),
    (
        "FROM a\nARG",
        "dockerfile parse error on line 2: ARG requires at least one argument",
        2,
        1,
        "write `ARG <name>[=<default>]`",
    ),
    (
        "FROM a\nSHELL []",
        "dockerfile parse error on line 2: SHELL requires at least one argument",
        2,
        1,
        "write `SHELL [\"/bin/bash\", \"-c\"]`",
    ),
    (
        "FROM a\nWORKDIR",
        "dockerfile parse error on line 2: WORKDIR requires exactly one argument",
        2,
        1,
        "write `WORKDIR <directory>`",
    ),
    (
        "FROM a\nUSER",
        "dockerfile parse error on line 2: USER requires exactly one argument",
        2,
        1,
        "write `USER <user>[:<group>]`",
    ),
    (
        "FROM a\nSTOPSIGNAL",
        "dockerfile parse error on line 2: STOPSIGNAL requires exactly one argument",
        2,
        1,
        "write `STOPSIGNAL <signal>`, for instance SIGTERM or 15",
    ),
    (
        "FROM a\nMAINTAINER",
        "dockerfile parse error on line 2: MAINTAINER requires exactly one argument",
        2,
        1,
        "write `LABEL maintainer=<name>`",
    ),
    (
        "FROM a\nSHELL sh -c",
        "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form",
        2,
        1,
        "write `SHELL [\"/bin/bash\", \"-c\"]`",
    ),
    (
        "FROM a\nADD x",
        "dockerfile parse error on line 2: ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        2,
        1,
        "write `ADD <source>… <destination>`",
    ),
    (
        "FROM a\nCOPY a <<b\nb",
        "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination",
        2,
        8,
        "put the destination last: `COPY <<EOF <destination>`",
    ),
    (
        "FROM a\nENV =b",
        "dockerfile parse error on line 2: ENV names can not be blank",
        2,
        5,
        "write `ENV <name>=<value>`",
    ),
    (
        "FROM a\nARG a =b",
        "dockerfile parse error on line 2: ARG names can not be blank",
        2,
        7,
        "write `ARG <name>[=<default>]`",
    ),
    (
        "FROM a\nFROM a b",
        "dockerfile parse error on line 2: FROM requires either one or three arguments",
        2,
        1,
        "write `FROM <image>` or `FROM <image> AS <name>`",
    ),
    (
        "FROM a\nFROM a AS 1x",
        "dockerfile parse error on line 2: invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        2,
        11,
        "start with a letter; go on with letters, digits, `-`, `_` and `.`",
    ),
    (
        "FROM a\nONBUILD FROM a",
        "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger",
        2,
        9,
        "put this instruction in the Dockerfile that builds on the image",
    ),
    (
        "FROM a\nONBUILD onbuild RUN x",
        "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        2,
        1,
        "write `ONBUILD` once",
    ),
    (
        "FROM a\nHEALTHCHECK NONE x",
        "dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments",
        2,
        1,
        "write `HEALTHCHECK [options] CMD <command>` or `HEALTHCHECK NONE`",
    ),
    (
        "FROM a\nHEALTHCHECK CMD",
        "dockerfile parse error on line 2: Missing command after HEALTHCHECK CMD",
        2,
        1,
        "write `HEALTHCHECK [options] CMD <command>` or `HEALTHCHECK NONE`",
    ),
    (
        "FROM a\nHEALTHCHECK TCP 80",
        "dockerfile parse error on line 2: Unknown type \"TCP\" in HEALTHCHECK (try CMD)",
        2,
        13,
        "write `HEALTHCHECK [options] CMD <command>` or `HEALTHCHECK NONE`",
    ),
    (
        "FROM a\nHEALTHCHECK --interval=5 CMD a",
        "dockerfile parse error on line 2: time: missing unit in duration \"5\"",
        2,
        24,
        "write a duration such as `30s` or `1m30s`",
    ),
    (
        "FROM a\nHEALTHCHECK --start-period=1x CMD a",
        "dockerfile parse error on line 2: time: unknown unit \"x\" in duration \"1x\"",
        2,
        28,
        "write a duration such as `30s` or `1m30s`",
    ),
    (
        "FROM a\nHEALTHCHECK --timeout=.s CMD a",
        "dockerfile parse error on line 2: time: invalid duration \".s\"",
        2,
        23,
        "write a duration such as `30s` or `1m30s`",
    ),
    (
        "FROM a\nHEALTHCHECK --timeout=1us CMD a",
        "dockerfile parse error on line 2: Interval \"timeout\" cannot be less than 1ms",
        2,
        15,
        "write a duration such as `30s` or `1m30s`",
    ),
    (
        "FROM a\nHEALTHCHECK --retries=x CMD a",
        "dockerfile parse error on line 2: strconv.ParseInt: parsing \"x\": invalid syntax",
        2,
        23,
        "write how many failures in a row count, for instance 3",
    ),
    (
        "FROM a\nHEALTHCHECK --retries=-1 CMD a",
        "dockerfile parse error on line 2: --retries cannot be negative (-1)",
        2,
        13,
        "write how many failures in a row count, for instance 3",
    ),
    (
        "FROM a\nVOLUME [\" \"]",
        "dockerfile parse error on line 2: VOLUME specified can not be an empty string",
        2,
        1,
        "write `VOLUME <directory>`",
    ),
    (
        "FROM a\nRUN --network=lan x",
        "dockerfile parse error on line 2: invalid network mode \"lan\"",
        2,
        15,
        "write `default`, `none` or `host`",
    ),
    (
        "FROM a\nRUN --security=none x",
        "dockerfile parse error on line 2: security \"none\" is not valid",
        2,
        16,
        "write `sandbox` or `insecure`",
    ),
    (
        "FROM a\nRUN --mount=from=$x,target=/a x",
        "dockerfile parse error on line 2: 'from' doesn't support variable expansion, define alias stage instead",
        2,
        13,
        "write `FROM $NAME AS tools` above and `from=tools` here",
    ),
    (
        "FROM a\nRUN --device=v/c=1,name=v/d x",
        "dockerfile parse error on line 2: device name already set to v/c=1",
        2,
        20,
        "leave one of the two names out",
    ),
    (
        "FROM a\nRUN --device=v/c=1,optional x",
        "dockerfile parse error on line 2: invalid field 'optional' must be a key=value pair",
        2,
        20,
        "the keys are name and required",
    ),
    (
        "FROM a\nRUN --device=v/c=1,required=no x",
        "dockerfile parse error on line 2: invalid value for required: no",
        2,
        29,
        "write true or false",
    ),
    (
        "FROM a\nRUN --device=v/c=1,rqired=1 x",
        "dockerfile parse error on line 2: unexpected key 'rqired' in 'rqired=1' (did you mean required?)",
        2,
        20,
        "the keys are name and required",
    ),
    (
        "FROM a\nENV PATH",
        "ENV must have two arguments",
        2,
        1,
        "write `ENV <name>=<value>`",
    ),
    (
        "FROM a\nLABEL a=b c",
        "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        2,
        11,
        "put values with spaces in double quotes: name=\"a b\"",
    ),
    (
        "FROM a\nCMD [1]",
        "when using JSON array syntax, arrays must be comprised of strings only",
        2,
        5,
        "put every element in double quotes",
    ),
    (
        "FROM a\nRUN <<E\nx",
        "unterminated heredoc",
        2,
        7,
        "end it with a line that is `E` and nothing else",
    ),
    (
        "FROM a\nRUN --mount='type=cache,tar\"get' x",
        "dockerfile parse error on line 2: failed to parse csv mounts: bare or unclosed quote in \"type=cache,tar\\\"get\"",
        2,
        14,
        "close the quotes around a field; within them a quote is doubled",
    ),
    (
        "FROM a\nRUN --device='v/\"c' x",
        "dockerfile parse error on line 2: failed to parse csv devices: bare or unclosed quote in \"v/\\\"c\"",
        2,
        15,
        "close the quotes around a field; within them a quote is doubled",
    ),
    (
        "FROM a\nRUN <<${x:-\\'}",
        "failed to process \"${x:-'}\": unexpected end of statement while looking for matching single-quote",
        2,
        1,
        "close the quote, or put the word in double quotes",
    ),
    (
        "",
        "the Dockerfile cannot be empty",
        1,
        1,
        "start with `FROM <image>`, or `FROM scratch` for an empty image",
    ),
    (
        "# only\n\n",
        "file with no instructions",
        1,
        1,
        "start with `FROM <image>`, or `FROM scratch` for an empty image",
    ),
    (
        "ARG a",
        "dockerfile contains no stages to build",
        1,
        1,
        "start with `FROM <image>`, or `FROM scratch` for an empty image",
    ),
    (
        "ARG a\nRUN x",
        "no build stage in current context",
        2,
        1,
        "put a `FROM` before this instruction; only `ARG` may stand before the first one",
    ),
    (
        "# escape=x\nFROM a",
        "invalid escape token 'x' does not match ` or \\",
        1,
        10,
        "write `# escape=\\` or `# escape=` and a backquote",
    ),
    (
        "# escape=`\n# escape=`\nFROM a",
        "only one escape parser directive can be used",
        2,
        3,
        "remove one of the two lines",
    ),
    (
        "// syntax=me/lang\n\nthing",
        "dockerfile parse error on line 1: unknown instruction: //",
        1,
        1,
        "this text is for the frontend `me/lang`, and strata reads Dockerfiles only",
    ),
    (
        "{\"syntax\":\"me/lang\"}",
        "dockerfile parse error on line 1: unknown instruction: {\"syntax\":\"me/lang\"}",
        1,
        1,
        "this text is for the frontend `me/lang`, and strata reads Dockerfiles only",
    ),
];

/// What is too long for the table, and what only an image can have.
fn special_cases() -> [(ParseError, Case); 4] {
    let of = |result: Result<_, ParseError>| {
        result.map(|_: crate::Dockerfile| ()).expect_err("no error")
    };
    let long = format!("FROM a\nRUN {}", "x".repeat(70_000));
    let triggers = |text| {
        crate::parse_trigger(text)
            .map(|_| ())
            .expect_err("no error")
    };
    [
        (
            of(parse(long.as_bytes())),
            (
                "a long line",
                "dockerfile line greater than max allowed size of 65535",
                2,
                1,
                "copy long content from a file of the build context instead",
            ),
        ),
        (
            of(parse(b"FROM a\nRUN \xff")),
            (
                "no UTF-8",
                "line is not valid UTF-8",
                2,
                1,
                "save the file as UTF-8",
            ),
        ),
        (
            triggers("RUN a\nRUN b"),
            (
                "two triggers",
                "onbuild trigger should be a single expression",
                1,
                1,
                "give each `ONBUILD` of the base image one instruction",
            ),
        ),
        (
            triggers("ONBUILD RUN x"),
            (
                "a trigger in a trigger",
                "dockerfile parse error on line 1: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
                1,
                1,
                "write `ONBUILD` once",
            ),
        ),
    ]
}

#[test]
fn every_error_has_its_words_its_place_and_a_hint() {
    let table = CASES.iter().map(|case| {
        let error = parse(case.0.as_bytes()).expect_err(case.0);
        (error, *case)
    });
    let mut seen = BTreeSet::new();
    let (mut durations, mut devices) = (BTreeSet::new(), BTreeSet::new());
    for (error, (text, message, line, column, hint)) in table.chain(special_cases()) {
        assert_eq!(error.to_string(), message, "{text}");
        assert_eq!((error.line, error.column), (line, column), "{text}");
        assert_eq!(error.hint, hint, "{text}");
        // What prints an error adds its causes: none may say the same again.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert!(cause.is_none_or(|cause| message.contains(&cause)), "{text}");
        seen.insert(parse_error(&error.kind));
        match &*error.kind {
            ParseErrorKind::Duration(error) => durations.extend([duration_error(error)]),
            ParseErrorKind::Device(error) => devices.extend([device_error(error)]),
            _ => {}
        }
    }
    check_coverage(PARSE_ERRORS, seen);
    check_coverage(DURATION_ERRORS, durations);
    check_coverage(DEVICE_ERRORS, devices);
}

fn mount(text: &str) -> MountError {
    match MountFlag::parse(text) {
        Ok(flag) => flag.resolve(&|_| None, '\\').map(|_| ()).expect_err(text),
        Err(error) => error,
    }
}

fn word(text: &str) -> ExpandError {
    let variable = |name: &str| (name == "BAD").then(|| "x".to_owned());
    expand::word(text, &variable, '\\').expect_err(text)
}
/// The flag, the message, the word to point at and the hint.
type MountCase = (&'static str, &'static str, &'static str, &'static str);

const MOUNT_CASES: [MountCase; 22] = [
    (
        "type=tmpfs,target=${X",
        "failed to process \"${X\": syntax error: missing '}'",
        "${X",
        "close `${` with `}`",
    ),
    (
        "a\"b",
        "failed to parse csv mounts: bare or unclosed quote in \"a\\\"b\"",
        "a\"b",
        "close the quotes around a field; within them a quote is doubled",
    ),
    (
        "type=cache,target",
        "invalid field 'target' must be a key=value pair",
        "target",
        "write `target=<value>`",
    ),
    (
        "from=$X",
        "'from' doesn't support variable expansion, define alias stage instead",
        "from=",
        "write `FROM $NAME AS tools` above and `from=tools` here",
    ),
    (
        "type=bind,form=a",
        "unexpected key 'form' in 'form=a' (did you mean from?)",
        "form=a",
        "write `from`",
    ),
    (
        "type=bind,colour=a",
        "unexpected key 'colour' in 'colour=a'",
        "colour=a",
        "the keys are type, target, source, from, readonly, id, sharing, mode, uid, gid, size, required and env",
    ),
    (
        "type=bind,sharing=locked,target=/a",
        "invalid cache sharing set for bind mount",
        "sharing=",
        "leave `sharing` out: it is for caches",
    ),
    (
        "type=cash",
        "unsupported mount type \"cash\" (did you mean cache?)",
        "cash",
        "write `type=cache`",
    ),
    (
        "type=volume",
        "unsupported mount type \"volume\"",
        "volume",
        "the types are bind, cache, tmpfs, secret and ssh",
    ),
    (
        "type=cache,sharing=lock",
        "unsupported sharing value \"lock\" (did you mean locked?)",
        "lock",
        "write `sharing=locked`",
    ),
    (
        "type=cache,sharing=none",
        "unsupported sharing value \"none\"",
        "none",
        "write shared, private or locked",
    ),
    (
        "type=bind,ro=perhaps",
        "invalid value for ro: perhaps",
        "perhaps",
        "write true or false",
    ),
    (
        "type=tmpfs,size=big",
        "invalid value for size: big",
        "big",
        "write a size such as 64m",
    ),
    (
        "type=cache,mode=9",
        "invalid value 9 for mode",
        "9",
        "write an octal number such as 0755",
    ),
    (
        "type=cache,uid=x",
        "invalid value x for uid",
        "x",
        "write a number",
    ),
    (
        "type=bind,uid=1",
        "uid not allowed for \"bind\" type mounts",
        "uid",
        "leave `uid` out: it is for caches, secrets and agents",
    ),
    (
        "type=secret,id=a,from=b",
        "secret mount should not have a from",
        "from=",
        "leave `from` out: `build --secret` gives secrets",
    ),
    (
        "type=secret,id=a,sharing=locked",
        "secret mount should not define sharing",
        "sharing=",
        "leave `sharing` out: it is for caches",
    ),
    (
        "type=secret",
        "invalid secret mount. one of source, target required",
        "--mount",
        "write `id=<name>`, as in `build --secret id=<name>,…`",
    ),
    (
        "type=secret,id=a,source=b",
        "both source and id can't be set",
        "id=",
        "leave one of `source` and `id` out",
    ),
    (
        "type=tmpfs,target=/a,sharing=locked",
        "invalid cache sharing set for tmpfs mount",
        "sharing=",
        "leave `sharing` out: it is for caches",
    ),
    (
        "type=bind,size=1",
        "unexpected key 'size' for mount type 'bind'",
        "size",
        "leave `size` out, or put the `type` that has it before it",
    ),
];

#[test]
fn every_error_of_a_mount_has_its_words_a_word_to_point_at_and_a_hint() {
    let mut seen = BTreeSet::new();
    for (text, message, culprit, hint) in MOUNT_CASES {
        let error = mount(text);
        assert_eq!(error.to_string(), message, "{text}");
        assert_eq!(error.culprit(), Some(culprit), "{text}");
        assert_eq!(error.hint(), hint, "{text}");
        seen.insert(mount_error(&error));
    }
    check_coverage(MOUNT_ERRORS, seen);
}

#[test]
fn every_error_of_a_word_has_its_words_and_a_hint() {
    let mut seen = BTreeSet::new();
    let deep = format!("{}x{}", "${a:-".repeat(70), "}".repeat(70));
    let deep_message =
        format!("failed to process {deep:?}: substitutions are nested more than 64 deep");
    for (text, message, hint) in [
        (
            "a'b",
            "failed to process \"a'b\": unexpected end of statement while looking for matching single-quote",
            "close the quote, or put the word in double quotes",
        ),
        (
            "a\"b",
            "failed to process \"a\\\"b\": unexpected end of statement while looking for matching double-quote",
            "close the quote, or write `\\\"` for one",
        ),
        (
            "${a",
            "failed to process \"${a\": syntax error: missing '}'",
            "close `${` with `}`",
        ),
        (
            "${a/b}",
            "failed to process \"${a/b}\": syntax error: missing '/' in ${}",
            "write `${name/pattern/replacement}`",
        ),
        (
            "${}",
            "failed to process \"${}\": syntax error: bad substitution",
            "write `${name}`, or `\\$` for a dollar sign",
        ),
        (
            "${a^}",
            "failed to process \"${a^}\": unsupported modifier (^) in substitution",
            "write `${name}`, or one of `:-` `:+` `:?` `-` `+` `?` `#` `##` `%` `%%` `/` `//` behind the name",
        ),
        (
            "${a:?}",
            "failed to process \"${a:?}\": a: is not allowed to be unset",
            "give it a value: `--build-arg a=…`, or `ARG a=…` above",
        ),
        (
            "${a?none}",
            "failed to process \"${a?none}\": a: none",
            "give it a value: `--build-arg a=…`, or `ARG a=…` above",
        ),
        (
            "${BAD#\\x}",
            "failed to process \"${BAD#\\\\x}\": invalid pattern (\\x) in substitution: invalid escape '\\x'",
            "a backslash stands before `*`, `?`, `}`, `/` or a backslash only",
        ),
        (
            deep.as_str(),
            deep_message.as_str(),
            "give parts of it names of their own with `ARG`",
        ),
    ] {
        let error = word(text);
        assert_eq!(error.to_string(), message, "{text}");
        assert_eq!(error.hint(), hint, "{text}");
        seen.insert(expand_error(&error.kind));
    }
    check_coverage(EXPAND_ERRORS, seen);
}

#[test]
fn every_error_of_a_port_has_its_words_a_word_to_point_at_and_a_hint() {
    let mut seen = BTreeSet::new();
    for (text, message, culprit, hint) in [
        (
            "/tcp",
            "invalid port: \"/tcp\": no port specified",
            "/tcp",
            "write `EXPOSE <port>[/<protocol>]`",
        ),
        (
            "80/http",
            "invalid port: \"80/http\": invalid proto: http",
            "http",
            "the protocols are tcp, udp and sctp",
        ),
        (
            "x",
            "invalid containerPort: x",
            "x",
            "write a port up to 65535, or a range such as 8000-8010",
        ),
        (
            "65536",
            "invalid containerPort: 65536",
            "65536",
            "write a port up to 65535, or a range such as 8000-8010",
        ),
        (
            "9-8",
            "invalid containerPort: 9-8",
            "9-8",
            "write a port up to 65535, or a range such as 8000-8010",
        ),
        (
            "x:80",
            "invalid hostPort: x",
            "x",
            "write the container's port only: `run --publish` says what it is on the host",
        ),
        (
            "a:1:80",
            "invalid IP address: a",
            "a",
            "write the container's port only: `run --publish` says what it is on the host",
        ),
        (
            "1-2:80-82",
            "invalid ranges specified for container and host Ports: 80-82 and 1-2",
            "80-82",
            "write the container's port only: `run --publish` says what it is on the host",
        ),
    ] {
        let error = port::normalize(text).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
        assert_eq!(
            (error.culprit(), error.hint().as_str()),
            (culprit, hint),
            "{text}"
        );
        seen.insert(port_error(&error));
    }
    check_coverage(PORT_ERRORS, seen);
}

#[test]
fn every_error_of_a_pattern_has_its_words_and_a_hint() {
    let mut seen = BTreeSet::new();
    for (text, message, hint) in [
        ("a[", "syntax error in pattern `a[`", "close `[`"),
        ("!", "illegal exclusion pattern: \"!\"", "behind `!`"),
    ] {
        let error = Patterns::parse(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
        assert!(error.hint().contains(hint), "{}", error.hint());
        seen.insert(pattern_error(&error));
    }
    check_coverage(PATTERN_ERRORS, seen);
}
