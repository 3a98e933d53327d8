//! The project's own cases: what kaniko's leave out.

use std::path::Path;

use anyhow::Result;

use super::case::Case;
use super::context;
use super::web::Web;

/// The Dockerfiles. A line `=== NAME` begins one; `#ignore`, `#arg` and `#context` lines after it are
/// text of its `.dockerignore`, words for the command line, and another context.
const DOCKERFILES: &str = include_str!("own.txt");

/// Returns the cases; their context is made in `place`.
pub fn cases(place: &Path, web: &Web) -> Result<Vec<Case>> {
    let directory = place.join("context");
    std::fs::create_dir(&directory)?;
    context::make(&directory)?;
    context::make_odd(&place.join("odd"))?;
    let secret = place.join("secret");
    std::fs::write(&secret, "hush")?;
    let mut cases: Vec<Case> = Vec::new();
    for line in DOCKERFILES.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case {
                name: format!("own/{name}"),
                context: directory.clone(),
                env: vec![("FROM_ENVIRONMENT", "told")],
                unstable: vec!["date"],
                ..Case::default()
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        if let Some(pattern) = line.strip_prefix("#ignore ") {
            let ignore = case.ignore.get_or_insert_default();
            ignore.push_str(pattern);
            ignore.push('\n');
        } else if let Some(context) = line.strip_prefix("#context ") {
            case.context = place.join(context);
        } else if let Some(arg) = line.strip_prefix("#arg ") {
            case.args
                .push(arg.replace("SECRET", &secret.to_string_lossy()));
        } else {
            case.dockerfile.push_str(&line.replace("WEB", &web.url()));
            case.dockerfile.push('\n');
        }
    }
    Ok(cases)
}
