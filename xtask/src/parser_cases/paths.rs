//! moby's pattern matcher with its reader of ignore files, and BuildKit's ports.

use anyhow::{Context, Result};
use dockerfile::ignore::{self, Patterns};
use dockerfile::port;
use serde_json::Value;

use super::go::{self, Literals};
use super::{Source, Tally, list, text, texts};

pub fn patterns(source: &Source, tally: &mut Tally) -> Result<()> {
    let tests = source.read("patternmatcher_test.go")?;
    tally.set("patternmatcher_test");
    let tables = go::function(&tests, "TestMatches")?;
    let mut cases = list(&go::literal_after(tables, "tests := ")?).to_vec();
    cases.extend(
        list(&go::literal_after(tables, "append(tests, ")?)
            .iter()
            .cloned(),
    );
    for case in &cases {
        let [pattern, path] = [&case[0], &case[1]].map(text);
        tally.equal(
            &format!("{pattern} {path}"),
            excludes(&[pattern.to_owned()], path),
            Ok(case[2] == true),
        );
    }
    for case in list(&go::literal_after(tables, "multiPatternTests := ")?) {
        let (patterns, path) = (texts(&case[0]), text(&case[1]));
        tally.equal(
            &format!("{patterns:?} {path}"),
            excludes(&patterns, path),
            Ok(case[2] == true),
        );
    }
    for case in list(&go::literal_after(&tests, "var matchTests = ")?) {
        let [pattern, path] = [&case[0], &case[1]].map(text);
        let found = excludes(&[pattern.to_owned()], path);
        let expected = match case[3].is_null() {
            true => Ok(case[2] == true),
            false => Err(format!("syntax error in pattern `{pattern}`")),
        };
        tally.equal(&format!("{pattern} {path}"), found, expected);
    }
    single_calls(&tests, tally)?;

    let tests = source.read("ignorefile/ignorefile_test.go")?;
    tally.set("ignorefile_test");
    let input = go::literal_after(&tests, "content = ")?;
    let expected = texts(&go::literal_after(&tests, "expected := ")?);
    tally.equal("content", ignore::read(text(&input).as_bytes()), expected);
    tally.equal("nothing", ignore::read(b""), Vec::new());
    Ok(())
}

fn excludes(patterns: &[String], path: &str) -> Result<bool, String> {
    let patterns = Patterns::new(patterns).map_err(|error| error.to_string())?;
    Ok(patterns.excludes(path.as_bytes()))
}

/// Tests that make one call, and say what must not come of it.
fn single_calls(tests: &str, tally: &mut Tally) -> Result<()> {
    for body in tests.split("\nfunc ").skip(1) {
        let name = body.split('(').next().unwrap_or_default();
        if name.starts_with("TestClean") {
            let patterns = go::literal_after(body, "patterns := ")?;
            let patterns = Patterns::new(&texts(&patterns));
            let holds = match patterns {
                Ok(patterns) if body.contains("Exclusions()") => patterns.has_exceptions(),
                Ok(patterns) => !patterns.is_empty(),
                Err(_) => body.contains("err == nil"),
            };
            tally.equal(name, holds, true);
        } else if let Some((_, call)) = body.split_once(":= Matches(") {
            if name == "TestMatch" {
                continue;
            }
            let mut arguments = Literals::new(call.split("\n}").next().unwrap_or(call))?;
            let path = arguments.value()?;
            arguments.comma();
            let patterns = texts(&arguments.value()?);
            let expected = match body {
                _ if body.contains("err == nil") => None,
                _ if body.contains("if !match") => Some(true),
                _ => Some(false),
            };
            tally.equal(name, excludes(&patterns, text(&path)).ok(), expected);
        } else if name.contains("Malformed") {
            let patterns = go::literal_after(body, "New(")?;
            tally.equal(name, excludes(&texts(&patterns), "x").is_err(), true);
        }
    }
    Ok(())
}

pub fn ports(source: &Source, tally: &mut Tally) -> Result<()> {
    let tests = source.read("dockerfile2llb/convert_expose_test.go")?;
    tally.set("dockerfile2llb/convert_expose_test");
    let table = go::function(&tests, "TestParsePortEmptyContainerPort")?;
    for case in list(&go::literal_after(table, "tests := ")?) {
        let specification = text(&case["spec"]);
        tally.fails(
            specification,
            port::normalize(specification),
            text(&case["expError"]),
        );
    }
    for case in list(&go::literal_after(
        go::function(&tests, "TestPartPortIPV6")?,
        "cases := ",
    )?) {
        let specification = text(&case["spec"]);
        tally.equal(
            specification,
            port::normalize(specification),
            Ok(texts(&case["expected"])),
        );
    }
    for name in [
        "TestParsePortFull",
        "TestParsePorts",
        "TestParsePortsWithRange",
    ] {
        for step in go::function(&tests, name)?.split("ps.parsePort").skip(1) {
            let start = step.find('(').context("a call")? + 1;
            let argument =
                Literals::new(step[start..].split("\n}").next().unwrap_or_default())?.value()?;
            let specifications = match &argument {
                Value::String(specification) => vec![specification.clone()],
                several => texts(several),
            };
            let found: Result<Vec<_>, _> = specifications
                .iter()
                .map(|one| port::normalize(one))
                .collect();
            let found = found.map(|ports| ports.concat()).ok();
            let expected = go::literal_after(step, "assert.Equal(t, ")
                .ok()
                .map(|ports| texts(&ports));
            let expected = expected.filter(|_| !step.contains("assert.Error("));
            tally.equal(&specifications.join(" "), found, expected);
        }
    }
    Ok(())
}
