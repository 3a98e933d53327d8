//! The public cases of BuildKit and moby.

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::check::{Base, CheckOptions, Coverage, Report, Settings, check};
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

/// BuildKit warns about what it has read before an error; here a text that does not parse has
/// its error only.
const ONLY_ITS_ERROR: &str = "TestWarningsBeforeError-01.json";

/// The lines that this case gives for all stages are not those of its own text.
const LINES_OF_ANOTHER_TEXT: &str = "TestLegacyKeyValueFormat-03.json";

fn strings_of(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| (key.clone(), text(value).to_owned()))
        .collect()
}

/// The warnings of a case as sortable lines.
fn expected_warnings(case: &Value, coverage: Coverage<'_>) -> Vec<String> {
    let all = case["unmarshalWarnings"]
        .as_array()
        .filter(|warnings| !warnings.is_empty());
    let warnings = match (coverage, all) {
        (Coverage::All, Some(warnings)) => warnings,
        _ => array(&case["warnings"]),
    };
    let line = |warning: &Value| {
        let texts = ["RuleName", "Description", "URL", "Detail"].map(|key| text(&warning[key]));
        format!("{} {}", warning["Line"], texts.join("|"))
    };
    let mut lines: Vec<String> = warnings.iter().map(line).collect();
    lines.sort();
    lines
}

fn found_warnings(report: &Report) -> Vec<String> {
    let line = |warning: &dockerfile::Warning| {
        let rule = warning.rule;
        let texts = [
            rule.name(),
            rule.description(),
            &rule.url(),
            &warning.message,
        ]
        .join("|");
        format!("{} {texts}", warning.span.start)
    };
    let mut lines: Vec<String> = report.warnings.iter().map(line).collect();
    lines.sort();
    lines
}

fn check_case(case: &Value, coverage: Coverage<'_>) -> Report {
    let attributes = strings_of(&case["frontendAttrs"]);
    let mut build_args = BTreeMap::new();
    for (key, value) in &attributes {
        if let Some(name) = key.strip_prefix("build-arg:") {
            build_args.insert(name.to_owned(), value.clone());
        }
    }
    let settings = build_args.remove("BUILDKIT_DOCKERFILE_CHECK");
    let settings = settings.map(|settings| Settings::parse(&settings).expect("valid"));
    let mut platform_args = BTreeMap::new();
    for side in ["BUILD", "TARGET"] {
        for (name, value) in [
            ("PLATFORM", "linux/amd64"),
            ("OS", "linux"),
            ("ARCH", "amd64"),
        ] {
            platform_args.insert(format!("{side}{name}"), value.to_owned());
        }
    }
    let ignore = Patterns::parse(text(&case["dockerignore"]).as_bytes()).expect("valid");
    let dockerfile = dockerfile::parse(text(&case["dockerfile"]).as_bytes()).expect("valid");
    let base = |_: &str| Base {
        environment: vec![("PATH".to_owned(), "/bin".to_owned())],
        shell: Vec::new(),
    };
    let is_image_name = |name: &str| !name.is_empty() && !name.ends_with([':', '/', '-']);
    let options = CheckOptions {
        build_args: &build_args,
        platform_args: &platform_args,
        coverage,
        ignore: Some(&ignore),
        settings: settings.as_ref(),
        base: &base,
        is_image_name: &is_image_name,
    };
    check(&dockerfile, &options).expect("valid settings")
}

#[test]
fn shared_cases_of_buildkits_checks_warn_as_there() {
    let directory = format!(
        "{}/../../../shared/cases/buildkit-lint",
        env!("CARGO_MANIFEST_DIR")
    );
    let files = std::fs::read_dir(directory).expect("the shared cases are beside the project");
    let mut names: Vec<String> = files
        .map(|file| {
            file.expect("readable")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    assert!(names.len() > 80, "{}", names.len());
    for name in names.iter().filter(|name| *name != ONLY_ITS_ERROR) {
        let case = cases(&format!("buildkit-lint/{name}"));
        for coverage in [Coverage::Target(None), Coverage::All] {
            if name == LINES_OF_ANOTHER_TEXT && coverage == Coverage::All {
                continue;
            }
            let report = check_case(&case, coverage);
            let expected = expected_warnings(&case, coverage);
            assert_eq!(
                found_warnings(&report),
                expected,
                "{name} {coverage:?} {case:#}"
            );
            let violation = text(&case["buildErr"]);
            if violation.starts_with("lint") {
                assert_eq!(report.error.as_deref(), Some(violation), "{name}");
            }
        }
    }
}
