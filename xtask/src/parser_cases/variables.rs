//! BuildKit's package `shell`: words and their variables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use dockerfile::expand;
use serde_json::Value;

use super::go::{self, Literals};
use super::{Source, Tally, list, text, texts};

pub fn run(source: &Source, tally: &mut Tally) -> Result<()> {
    words(&source.read("shell/wordsTest")?, tally)?;
    values(
        &source.read("shell/envVarTest")?,
        &source.read("shell/lex_test.go")?,
        tally,
    )?;
    lexer(&source.read("shell/lex_test.go")?, tally)
}

type Variables = BTreeMap<String, String>;

fn lookup(variables: &Variables) -> impl Fn(&str) -> Option<String> {
    |name| variables.get(name).cloned()
}

fn assign(variables: &mut Variables, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    variables.insert(name.to_owned(), value.to_owned());
}

fn words(table: &str, tally: &mut Tally) -> Result<()> {
    tally.set("shell/wordsTest");
    let mut variables = Variables::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        if let Some(pair) = line.strip_prefix("ENV ") {
            assign(&mut variables, pair.trim_start_matches(' '));
            continue;
        }
        let (input, expected) = line.split_once('|').context("a line without `|`")?;
        let expected = expected
            .trim_start_matches(' ')
            .split(',')
            .map(str::to_owned);
        let found = expand::words(input.trim(), &lookup(&variables), '\\');
        let found = found.unwrap_or_else(|_| vec!["error".to_owned()]);
        // Splitting nothing gives one empty word in Go.
        let found = if found.is_empty() {
            vec![String::new()]
        } else {
            found
        };
        tally.equal(line, found, expected.collect());
    }
    Ok(())
}

fn values(table: &str, tests: &str, tally: &mut Tally) -> Result<()> {
    tally.set("shell/envVarTest");
    let mut variables = Variables::new();
    let body = go::function(tests, "TestShellParser4EnvVars")?;
    for pair in texts(&go::literal_after(body, "EnvsFromSlice(")?) {
        assign(&mut variables, &pair);
    }
    for line in table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        let parts: Vec<&str> = line.trim().split('|').map(str::trim).collect();
        let [platform, input, expected] = parts.as_slice() else {
            anyhow::bail!("not three parts: {line}");
        };
        if *platform == "W" {
            continue;
        }
        let found = expand::word(input, &lookup(&variables), '\\');
        let found = found.unwrap_or_else(|_| "error".to_owned());
        tally.equal(line, found.as_str(), expected);
    }
    Ok(())
}

fn lexer(tests: &str, tally: &mut Tally) -> Result<()> {
    tally.set("shell/lex_test");
    let body = go::function(tests, "TestProcessWithMatches")?;
    for case in list(&go::literal_after(body, "tc := ")?) {
        let input = text(&case["input"]);
        let variables = map(&case["envs"]);
        let found = expand::expand(input, &lookup(&variables), '\\');
        if case["expectedErr"] == true {
            tally.equal(input, found.is_err(), true);
            continue;
        }
        let expected = (
            text(&case["expected"]).to_owned(),
            names(&case["matches"]),
            names(&case["unmatched"]),
        );
        let found = found.map(|found| (found.text, found.used, found.unset.into_iter().collect()));
        tally.equal(input, found, Ok(expected));
    }
    let body = go::function(tests, "TestProcessWithMatchesPlatform")?;
    let input = go::literal_after(body, "release = ")?;
    let version = go::literal_after(body, "version = ")?;
    for step in body.split("ProcessWordWithMatches(release").skip(1) {
        let mut variables = map(&go::literal_after(step, "envsFromMap(")?);
        variables.insert("VERSION".to_owned(), text(&version).to_owned());
        let expected = go::literal_after(step, "require.Equal(t, ")?;
        let found = expand::word(text(&input), &lookup(&variables), '\\')?;
        tally.equal(&format!("{variables:?}"), found.as_str(), text(&expected));
    }
    patterns(
        go::function(tests, "TestConvertShellPatternToRegex")?,
        tally,
    )?;
    mandatory(
        go::function(tests, "TestShellParserMandatoryEnvVars")?,
        tally,
    )
}

fn names(value: &Value) -> BTreeSet<String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, _)| name.clone()).collect()
}

fn map(value: &Value) -> Variables {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(name, value)| (name.clone(), text(value).to_owned()))
        .collect()
}

/// Patterns that are no patterns; what valid ones match is in the other tables.
fn patterns(body: &str, tally: &mut Tally) -> Result<()> {
    for pattern in texts(&go::literal_after(body, "invalid := ")?) {
        let variables = Variables::from([("P".into(), pattern.clone()), ("V".into(), "x".into())]);
        let found = expand::word("${V#$P}", &lookup(&variables), '\\');
        tally.equal(&pattern, found.is_err(), true);
    }
    Ok(())
}

/// Each call of the lexer is followed by what must come of it.
fn mandatory(body: &str, tally: &mut Tally) -> Result<()> {
    for step in body.split("ProcessWord(").skip(1) {
        let mut arguments = Literals::new(step.split(')').next().unwrap_or_default())?;
        let input = arguments.value()?;
        let environment = step
            .split("EnvsFromSlice(")
            .nth(1)
            .and_then(|rest| rest.split(')').next());
        let environment = environment.context("an environment")?;
        let input = go::literal_after(body, &format!("{} := ", text(&input["go"])))?;
        let mut variables = Variables::new();
        for pair in texts(&go::literal_after(body, &format!("{environment} := "))?) {
            assign(&mut variables, &pair);
        }
        let case = format!("{} {variables:?}", text(&input));
        let found = expand::word(text(&input), &lookup(&variables), '\\');
        if step.contains("require.ErrorContains(") {
            let message = go::literal_after(step, "require.ErrorContains(t, err, ")?;
            tally.fails(&case, found, text(&message));
        } else {
            let expected = go::literal_after(step, "require.Equal(t, ");
            let expected = expected.map_or(String::new(), |value| text(&value).to_owned());
            tally.equal(&case, found, Ok(expected));
        }
    }
    Ok(())
}
