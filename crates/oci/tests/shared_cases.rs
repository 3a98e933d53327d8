//! The public cases of distribution/reference and the OCI image specification.

use oci::{Descriptor, ImageConfig, ManifestOrIndex, MediaType, Reference};
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

/// Some inputs were kept as the Go expressions they came from: strings, calls of
/// `strings.Repeat`, and a comment.
fn input(text: &str) -> String {
    if !text.starts_with('"') {
        return text.to_owned();
    }
    let expression = text
        .split("//")
        .next()
        .unwrap_or(text)
        .trim()
        .trim_end_matches(',');
    let mut result = String::new();
    for term in expression.split(" + ") {
        match term.strip_prefix("strings.Repeat(\"") {
            Some(call) => {
                let (repeated, count) = call.split_once("\", ").expect("two arguments");
                let count = count.trim_end_matches(')').parse().expect("a number");
                result.push_str(&repeated.repeat(count));
            }
            None => result.push_str(term.trim_matches('"')),
        }
    }
    result
}

#[test]
fn shared_cases_of_names_parse_as_in_distribution() {
    for case in array(&cases("reference-parse.json")) {
        let text = input(case["input"].as_str().expect("a string"));
        let found = Reference::parse(&text);
        if !case["err"].is_null() {
            assert!(found.is_err(), "{text}: {found:?}");
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(found.tag(), case["tag"].as_str(), "{text}");
        let digest = found.digest().map(ToString::to_string);
        assert_eq!(digest.as_deref(), case["digest"].as_str(), "{text}");
        // The cases are of the grammar; people's names are normalized on top of it.
        let name = input(case["repository"].as_str().expect("a string"));
        let expected = match case["domain"].as_str() {
            None => format!("docker.io/library/{name}"),
            Some(domain) if domain.contains(['.', ':']) => name,
            Some(_) => format!("docker.io/{name}"),
        };
        assert_eq!(found.repository(), expected, "{text}");
    }
}

#[test]
fn shared_cases_of_names_normalize_as_in_distribution() {
    let document = cases("reference-normalize.json");
    for text in array(&document["valid"]) {
        let text = text.as_str().expect("a string");
        assert!(Reference::parse(text).is_ok(), "{text}");
    }
    for text in array(&document["invalid"]) {
        let text = text.as_str().expect("a string");
        assert!(Reference::parse(text).is_err(), "{text}");
    }
    for case in array(&document["normalize"]) {
        for form in ["FamiliarName", "FullName", "AmbiguousName"] {
            let text = case[form].as_str().expect("a string");
            if text.is_empty() {
                continue;
            }
            let found = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(Some(found.registry()), case["Domain"].as_str(), "{text}");
            assert_eq!(Some(found.path()), case["RemoteName"].as_str(), "{text}");
            assert_eq!(
                Some(found.repository().as_str()),
                case["FullName"].as_str(),
                "{text}"
            );
            let familiar = found.familiar_repository();
            assert_eq!(
                Some(familiar.as_str()),
                case["FamiliarName"].as_str(),
                "{text}"
            );
        }
    }
}

/// What the specification refuses and this crate reads, by place in the file. What is unknown or
/// unused is kept as it came, because docker and the registries take such documents.
const LENIENT: [(&str, &[usize]); 6] = [
    (
        "media types are kept as they came",
        &[10, 14, 15, 24, 38, 39, 40, 42, 43, 54],
    ),
    (
        "an environment entry without `=` is docker's business",
        &[9],
    ),
    ("a platform without architecture is never selected", &[13]),
    ("`subject` is not read", &[21, 31]),
    ("an image without layers is an empty image", &[29]),
    ("`urls` and `data` are never used", &[52, 63]),
];

/// Valid digests of algorithms that nobody uses; see [`oci::Digest`].
const OTHER_ALGORITHMS: [usize; 6] = [56, 57, 58, 59, 60, 62];

/// `oci-layout` files are read where archives are.
const LAYOUT: &str = "layout";

fn is_valid(kind: &str, text: &str) -> bool {
    let bytes = text.as_bytes();
    let manifest = |media_type: Option<&str>| {
        ManifestOrIndex::parse(media_type.map(MediaType::from).as_ref(), bytes).is_ok()
    };
    match kind {
        "compat" if text.contains("schemaVersion") => manifest(None),
        "config" | "compat" => ImageConfig::parse(bytes).is_ok(),
        "manifest" => manifest(Some(MediaType::OCI_MANIFEST)),
        "index" => manifest(Some(MediaType::OCI_INDEX)),
        "descriptor" => serde_json::from_slice::<Descriptor>(bytes).is_ok(),
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn shared_cases_of_documents_are_judged_as_by_the_specification() {
    let lenient = |index: &usize| LENIENT.iter().any(|(_, cases)| cases.contains(index));
    let cases = cases("image-spec-validity.json");
    for (index, case) in array(&cases).iter().enumerate() {
        let kind = case["kind"].as_str().expect("a string");
        let text = case["json"].as_str().expect("a string");
        if kind == LAYOUT {
            continue;
        }
        let valid = case["valid"] == Value::Bool(true);
        let expected = (valid && !OTHER_ALGORITHMS.contains(&index)) || lenient(&index);
        assert_eq!(is_valid(kind, text), expected, "{index}: {text}");
    }
}
