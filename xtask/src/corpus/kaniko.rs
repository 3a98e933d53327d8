//! The integration tests of kaniko, as far as they need no network.

use std::path::Path;

use anyhow::{Context, Result};

use super::case::Case;
use super::web::Web;

/// Dockerfiles whose `RUN` installs packages, or needs an image that does.
const NEED_NETWORK: [&str; 10] = [
    "Dockerfile_hardlink_base",
    "Dockerfile_test_cache_install",
    "Dockerfile_test_cache_install_oci",
    "Dockerfile_test_hardlink",
    "Dockerfile_test_issue_1039",
    "Dockerfile_test_issue_1837",
    "Dockerfile_test_issue_2049",
    "Dockerfile_test_issue_2066",
    "Dockerfile_test_issue_684",
    "issue-1020",
];

/// Images that have no stand-in under their own name.
const STAND_INS: [(&str, &str); 7] = [
    ("gcr.io/distroless/base:latest", "busybox:latest"),
    ("google/cloud-sdk:256.0.0-alpine", "alpine:latest"),
    ("jboss/base-jdk:latest", "debian:latest"),
    ("rabbitmq:latest", "debian:latest"),
    ("bash:4.4", "busybox:latest"),
    ("library/debian:latest", "debian:latest"),
    ("docker.io/debian:bullseye-slim", "debian:latest"),
];

/// Build arguments, as kaniko's tests give them.
fn args(name: &str) -> &'static [&'static str] {
    match name {
        "Dockerfile_test_run" | "Dockerfile_test_run_new" | "Dockerfile_test_run_redo" => {
            &["file=/file"]
        }
        "Dockerfile_test_workdir" => &["workdir=/arg/workdir"],
        "Dockerfile_test_add" => &["file=context/foo"],
        "Dockerfile_test_arg_secret" => &["SSH_PRIVATE_KEY", "SSH_PUBLIC_KEY=Pµbl1cK€Y"],
        "Dockerfile_test_onbuild" => &["file=/tmp/onbuild"],
        "Dockerfile_test_scratch" => &[
            "image=scratch",
            "hello=hello-value",
            "file=context/foo",
            "file3=context/b*",
        ],
        "Dockerfile_test_multistage" => &["file=/foo2"],
        "Dockerfile_test_target" => &["file=/foo2"],
        _ => &[],
    }
}

/// Returns the cases in `checkout`; what they fetch is asked of `web`.
pub fn cases(checkout: &Path, web: &Web) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let integration = checkout.join("integration");
    for path in sorted(&integration.join("dockerfiles"))? {
        let name = name_of(&path);
        if name.ends_with(".dockerignore") {
            continue;
        }
        let context = match name.as_str() {
            "Dockerfile_git_buildcontext" => checkout.to_owned(),
            "Dockerfile_relative_copy" => integration.join("context"),
            _ => integration.clone(),
        };
        cases.push(case(&path, &name, &context)?);
    }
    for context in sorted(&integration.join("dockerfiles-with-context"))? {
        cases.push(case(
            &context.join("Dockerfile"),
            &name_of(&context),
            &context,
        )?);
    }
    cases.retain(|case| !NEED_NETWORK.contains(&case.name.trim_start_matches("kaniko/")));
    for case in &mut cases {
        case.dockerfile = case.dockerfile.replace("https:/", &web.url());
        case.dockerfile = stood_in(&case.dockerfile);
    }
    Ok(cases)
}

fn case(path: &Path, name: &str, context: &Path) -> Result<Case> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        text.with_context(|| format!("cannot read {}", path.display()))
    };
    let ignore = path.with_file_name(format!("{}.dockerignore", name_of(path)));
    let args = args(name).iter().map(|arg| format!("--build-arg={arg}"));
    let target = (name == "Dockerfile_test_target").then(|| "--target=second".to_owned());
    Ok(Case {
        name: format!("kaniko/{name}"),
        dockerfile: read(path)?,
        ignore: ignore.exists().then(|| read(&ignore)).transpose()?,
        context: context.to_owned(),
        args: args.chain(target).collect(),
        env: vec![("SSH_PRIVATE_KEY", "ThEPriv4t3Key")],
        unstable: vec!["date"],
    })
}

/// Names images as the stand-ins are named: without digests, which nothing made here has.
fn stood_in(dockerfile: &str) -> String {
    let line = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let is_from = words[0].eq_ignore_ascii_case("FROM");
        for word in &mut words {
            if let Some(from) = word.strip_prefix("--from=") {
                if from.contains([':', '@']) {
                    *word = format!("--from={}", stand_in(from));
                }
            } else if is_from && word.contains(['@', '/', ':']) {
                *word = stand_in(word);
            }
        }
        words.join(" ")
    };
    let lines: Vec<String> = dockerfile.lines().map(line).collect();
    lines.join("\n") + "\n"
}

fn stand_in(reference: &str) -> String {
    let name = reference.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    let name = match last.contains(':') {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    };
    let found = STAND_INS.iter().find(|(written, _)| *written == name);
    found.map_or(name, |(_, image)| (*image).to_owned())
}

fn sorted(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(directory);
    let entries = entries.with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
