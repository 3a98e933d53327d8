//! The public cases of BuildKit and moby.

use std::collections::BTreeSet;

use dockerfile::expand;
use dockerfile::ignore::Patterns;
use serde_json::Value;

fn cases(name: &str) -> Value {
    let path = format!(
        "{}/../../../shared/cases/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).expect("the shared cases are beside the project");
    serde_json::from_str(&text).expect("the shared cases are JSON")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn strings(value: &Value) -> Vec<String> {
    array(value)
        .iter()
        .map(|item| text(item).to_owned())
        .collect()
}

fn lookup(env: &Value) -> impl Fn(&str) -> Option<String> {
    |name| env[name].as_str().map(str::to_owned)
}

#[test]
fn shared_cases_of_buildkits_words_split_as_there() {
    for case in array(&cases("buildkit-words.json")) {
        let found = expand::words(text(&case["in"]), &lookup(&case["env"]), '\\');
        let found = found.unwrap_or_else(|_| vec!["error".to_owned()]);
        assert_eq!(found, strings(&case["out"]), "{case}");
    }
}

#[test]
fn shared_cases_of_buildkits_variables_expand_as_there() {
    let document = cases("buildkit-envvar.json");
    let variable = lookup(&document["env"]);
    for case in array(&document["cases"]) {
        let found = expand::word(text(&case["in"]), &variable, '\\').ok();
        assert_eq!(found.as_deref(), case["out"].as_str(), "{case}");
    }
}

#[test]
fn shared_cases_of_buildkits_lexer_report_what_they_used() {
    for case in array(&cases("buildkit-lex.json")) {
        let found = expand::expand(text(&case["in"]), &lookup(&case["env"]), '\\');
        assert_eq!(found.is_err(), case["error"] == Value::Bool(true), "{case}");
        let Ok(found) = found else {
            continue;
        };
        let set = |value: &Value| strings(value).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(found.text, text(&case["out"]), "{case}");
        assert_eq!(found.used, set(&case["matches"]), "{case}");
        let unset: BTreeSet<String> = found.unset.into_iter().collect();
        assert_eq!(unset, set(&case["unmatched"]), "{case}");
    }
}

#[test]
fn shared_cases_of_mobys_patterns_exclude_as_there() {
    let document = cases("patternmatcher.json");
    for group in ["dockerignore", "match"] {
        for case in array(&document[group]) {
            let patterns = Patterns::new(&strings(&case["patterns"]));
            let fails = case["error"] == Value::Bool(true);
            assert_eq!(patterns.is_err(), fails, "{case}");
            if let Ok(patterns) = patterns {
                let found = patterns.excludes(text(&case["path"]).as_bytes());
                assert_eq!(Value::Bool(found), case["match"], "{case}");
            }
        }
    }
}
