//! The kept inputs of every fuzz target still break no law.

use std::path::PathBuf;

fn replay(target: &str, check: fn(&[u8])) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(root.join(target)).expect("a corpus") {
        let path = entry.expect("an entry").path();
        check(&std::fs::read(&path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "no input for {target}");
}

#[test]
fn kept_inputs_of_tar_ingest_break_no_law() {
    replay("tar_ingest", fuzz::tar_ingest);
}

#[test]
fn privileged_kept_inputs_of_erofs_writer_break_no_law() {
    replay("erofs_writer", fuzz::erofs_writer);
}

#[test]
fn kept_inputs_of_manifest_break_no_law() {
    replay("manifest", fuzz::manifest);
}

#[test]
fn kept_inputs_of_config_break_no_law() {
    replay("config", fuzz::config);
}

#[test]
fn kept_inputs_of_reference_break_no_law() {
    replay("reference", fuzz::reference);
}

#[test]
fn kept_inputs_of_docker_archive_break_no_law() {
    replay("docker_archive", fuzz::docker_archive);
}

#[test]
fn privileged_kept_inputs_of_http_answers_break_no_law() {
    replay("http_answers", fuzz::http_answers);
}

#[test]
fn kept_inputs_of_dockerfile_break_no_law() {
    replay("dockerfile", fuzz::dockerfile);
}

#[test]
fn kept_inputs_of_expansion_break_no_law() {
    replay("expansion", fuzz::expansion);
}

#[test]
fn kept_inputs_of_ignore_break_no_law() {
    replay("ignore", fuzz::ignore);
}
