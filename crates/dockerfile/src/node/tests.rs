//! The low-level tree is that of BuildKit.

use serde_json::Value;

use super::*;

fn cases(name: &str) -> Value {
    let path = format!(
        "{}/../../../shared/cases/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).expect("the shared cases are beside the project");
    serde_json::from_str(&text).expect("the shared cases are JSON")
}

#[test]
fn shared_cases_of_buildkits_parser_give_its_trees() {
    let cases = cases("buildkit-parser.json");
    let cases = cases.as_array().expect("an array");
    assert_eq!(cases.len(), 37);
    for case in cases {
        let name = &case["name"];
        let text = case["dockerfile"].as_str().expect("a string");
        let tree = read(text.as_bytes());
        let Some(expected) = case["ast"].as_str() else {
            assert!(tree.is_err(), "{name}");
            continue;
        };
        let tree = tree.expect("valid");
        let found: Vec<String> = tree.nodes.iter().map(ToString::to_string).collect();
        let expected: Vec<&str> = expected.lines().collect();
        assert_eq!(found, expected, "{name}");
    }
}

fn lines(text: &str) -> Vec<String> {
    let tree = read(text.as_bytes()).expect("valid");
    tree.nodes.iter().map(ToString::to_string).collect()
}

#[test]
fn continuation_lines_join_and_comments_between_them_vanish() {
    for (text, expected) in [
        ("RUN a \\\n  b", "(run \"a   b\")"),
        ("RUN a \\  \t\n# comment\nb\n", "(run \"a b\")"),
        ("RUN a \\\r\nb\r\n", "(run \"a b\")"),
        ("RUN a \\\\\n", "(run \"a \\\\\\\\\")"),
        ("\u{feff}RUN a", "(run \"a\")"),
        ("  RUN a \\\n\n\n b", "(run \"a  b\")"),
        ("RUN a \\\n\\\nb", "(run \"a b\")"),
        ("# escape=`\nRUN a `\n b\\", "(run \"a  b\\\\\")"),
    ] {
        assert_eq!(lines(text), [expected], "{text:?}");
    }
}

#[test]
fn instructions_know_their_lines() {
    let text = "# c\n\nFROM a\nRUN x \\\n  y\n\nRUN <<E\n1\n2\nE\nCMD z";
    let tree = read(text.as_bytes()).expect("valid");
    let spans: Vec<(u32, u32)> = tree
        .nodes
        .iter()
        .map(|n| (n.span.start, n.span.end))
        .collect();
    assert_eq!(spans, [(3, 3), (4, 5), (7, 10), (11, 11)]);
}

#[test]
fn directives_end_where_the_first_other_line_begins() {
    let directives = |text: &str| read(text.as_bytes()).expect("valid").directives;
    let found =
        directives("#syntax = docker/dockerfile:1 foo\n# Escape=`\n# check=skip=all\nCMD a");
    assert_eq!(found.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(found.escape, '`');
    assert_eq!(found.check.as_deref(), Some("skip=all"));
    assert_eq!(directives("# hello\n# escape=`\nCMD a").escape, '\\');
    assert_eq!(directives("\n# escape=`\nCMD a").escape, '\\');
    assert_eq!(directives("CMD a\n# escape=`\nCMD b").escape, '\\');
    assert_eq!(directives("# unknown=1\n# escape=`\nCMD a").escape, '\\');
}

#[test]
fn empty_continuation_lines_are_warned_about() {
    let tree = read(b"RUN a \\\n\n  b\nCMD c").expect("valid");
    let [warning] = tree.warnings.as_slice() else {
        panic!("{:?}", tree.warnings);
    };
    assert_eq!(warning.message, "Empty continuation line");
    assert_eq!(warning.span.start, 3);
}

#[test]
fn heredocs_take_the_lines_up_to_their_name() {
    let text = "RUN cat <<A <<-B > f\none\nA \nA\n\ttwo\n\tB\nCMD x\n";
    let tree = read(text.as_bytes()).expect("valid");
    let [first, second] = tree.nodes[0].heredocs.as_slice() else {
        panic!("{:?}", tree.nodes[0]);
    };
    assert_eq!(first.content, "one\nA \n");
    assert_eq!(second.content, "\ttwo\n");
    assert_eq!(second.text(), "two\n");
    assert_eq!(tree.nodes.len(), 2);
    assert!(read(b"CMD cat <<A\nUSER x").is_ok());
    assert!(read(b"RUN [\"cat\", \"<<A\"]\nUSER x").is_ok());
    assert!(read(b"ONBUILD RUN cat <<A\nx").is_err());
}

#[test]
fn nothing_is_escaped_between_single_quotes() {
    for (text, expected) in [
        (r"ENV a='x\' b=y", r#"(env "a" "'x\\'" "=" "b" "y" "=")"#),
        (
            r#"ENV a="x\" b" c=y"#,
            r#"(env "a" "\"x\\\" b\"" "=" "c" "y" "=")"#,
        ),
        (r"ARG a='b\' c", r#"(arg "a='b\\'" "c")"#),
        (
            "# escape=`\nLABEL a='x`' b=y",
            r#"(label "a" "'x`'" "=" "b" "y" "=")"#,
        ),
    ] {
        assert_eq!(lines(text), [expected], "{text:?}");
    }
}

#[test]
fn a_shebang_ends_only_the_directives_of_the_parser() {
    let tree = read(b"#!/usr/bin/env build\n# check=skip=A // why\n# escape=`\nCMD a\\\nb");
    let tree = tree.expect("valid");
    assert_eq!(tree.directives.check.as_deref(), Some("skip=A"));
    assert_eq!(tree.directives.escape, '\\');
    assert_eq!(tree.nodes.len(), 1);
}
