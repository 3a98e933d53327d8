//! `copy`: what it says, and what it leaves.

use std::fs;
use std::process::Command;

use testkit::cli::{CommandLine, Served};

use crate::strata;

/// A registry with `demo:1` of one small layer, and the name of that.
fn registry() -> (CommandLine, Served, String) {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/demo:1", served.address());
    server.import_small("demo:1");
    (server, served, name)
}

fn names(strata: &CommandLine) -> Vec<String> {
    let entries = fs::read_dir(strata.path("work")).expect("lists");
    let names = entries.map(|entry| entry.expect("listed").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn an_image_goes_through_archives_and_keeps_its_id() {
    let (server, _served, name) = registry();
    let id = server.run(&["inspect", "-f", "{{.Id}}", "demo:1"]).stdout();
    let strata = strata();
    let copied = strata.run(&["copy", &name, "docker-archive:a.tar"]);
    let copied = copied.stdout();
    assert!(copied.ends_with(&format!("Image ID: {id}")), "{copied}");
    let loaded = strata.run(&["load", "-i", "a.tar"]).stdout();
    assert_eq!(loaded, format!("Loaded image: {name}\n"));

    let quiet = |from: &str, to: &str| strata.run(&["copy", "-q", from, to]).stdout();
    let digest = quiet(&name, "oci-archive:b.tar:v1");
    assert_eq!(quiet("oci-archive:b.tar", "oci:c:v2"), digest);
    assert_eq!(quiet("oci:c:v2", &name.replace(":1", ":2")), digest);
    assert_eq!(quiet("oci:c", "docker-archive:d.tar:x"), id);
    let loaded = strata.run(&["load", "-i", "d.tar"]).stdout();
    assert_eq!(loaded, "Loaded image: x:latest\n");
    let by_digest = format!("oci:c@{}", digest.trim());
    assert_eq!(quiet(&by_digest, "oci-archive:e.tar"), digest);
    let by_id = format!("docker-archive:d.tar@{}", id.trim());
    assert_eq!(quiet(&by_id, "docker-archive:f.tar:x"), id);
    let (saved, again) = (strata.work("d.tar"), strata.work("f.tar"));
    assert_eq!(
        fs::read(saved).expect("read"),
        fs::read(again).expect("read")
    );
}

#[test]
fn compressed_archives_are_sources_whatever_compressed_them() {
    let (_server, _served, name) = registry();
    let strata = strata();
    let quiet = |from: &str, to: &str| strata.run(&["copy", "-q", from, to]).stdout();
    let digest = quiet(&name, "oci-archive:a.tar:v1");
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let packed = strata.work(program);
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("{program} -c \"$0\" >\"$1\""))
            .args([strata.work("a.tar"), packed])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{program}");
        let layout = format!("oci:of-{program}:v1");
        assert_eq!(quiet(&format!("oci-archive:{program}"), &layout), digest);
    }
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let (_server, served, name) = registry();
    let strata = strata();
    strata
        .run(&["copy", "-q", &name, "oci:there:v1"])
        .succeeded();
    strata.write("junk", "junk");
    let missing = format!("{}/none:1", served.address());
    let hint = "write NAME, docker://NAME, oci:DIRECTORY[:NAME], docker-archive:FILE[:NAME] or oci-archive:FILE[:NAME]";
    for (from, to, said) in [
        (
            missing.as_str(),
            "oci:new/layout",
            format!("cannot copy from `{missing}`: manifest for {missing} not found: manifest unknown"),
        ),
        (
            "oci:there:v2",
            "oci:new",
            "cannot copy from `oci:there:v2`: no image `v2`: there are v1".to_owned(),
        ),
        (
            "oci:none",
            "oci:new",
            "cannot copy from `oci:none`: No such file or directory (os error 2)".to_owned(),
        ),
        (
            "oci-archive:junk",
            "oci:new",
            "cannot copy from `oci-archive:junk`: unexpected EOF".to_owned(),
        ),
        (
            "oci:there",
            "docker-archive:junk",
            "cannot copy to `docker-archive:junk`: `junk` is there already: remove it, or write to another file".to_owned(),
        ),
        (
            "oci:there",
            "oci:.",
            "cannot copy to `oci:.`: `.` is not empty and not an OCI layout".to_owned(),
        ),
        ("oci:", "oci:new", "`oci:` names no directory".to_owned()),
        ("dir:there", "oci:new", format!("`dir:` is not supported: {hint}")),
        ("oci:there", "https://q.io/a", format!("`https://` is not supported: {hint}")),
    ] {
        assert_eq!(
            strata.run(&["copy", from, to]).to_string(),
            format!("[stderr]\n{said}\n[exit 1]\n")
        );
    }
    assert_eq!(names(&strata), ["junk", "there"]);
}

#[test]
fn a_damaged_layout_is_not_the_registrys_fault() {
    let (_server, _served, name) = registry();
    let other = strata();
    let served = other.serve(&["--allow-push"]);
    let strata = strata();
    strata
        .run(&["copy", "-q", &name, "oci:damaged:v1"])
        .succeeded();
    let blobs = fs::read_dir(strata.work("damaged/blobs/sha256")).expect("lists");
    let paths = blobs.map(|entry| entry.expect("listed").path());
    // Everything else begins with a brace.
    let layer = paths
        .into_iter()
        .find(|path| !fs::read(path).expect("read").starts_with(b"{"))
        .expect("a layer");
    let mut bytes = fs::read(&layer).expect("read");
    bytes[20] ^= 1;
    fs::write(&layer, bytes).expect("written");
    let named = layer
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let elsewhere = format!("{}/new:1", served.address());
    for to in [
        &elsewhere,
        "oci:new",
        "oci-archive:new",
        "docker-archive:new",
    ] {
        let failed = strata.run(&["copy", "-q", "oci:damaged:v1", to]);
        let said = "cannot copy from `oci:damaged:v1`: content digest is sha256:";
        assert!(failed.stderr.starts_with(said), "{to}: {failed}");
        assert!(
            failed.stderr.contains(&format!("expected sha256:{named}")),
            "{failed}"
        );
        assert_eq!(names(&strata), ["damaged"], "{to}");
    }
}

#[test]
fn an_image_for_another_platform_is_copied_with_a_warning() {
    let (_server, _served, name) = registry();
    let strata = strata();
    for to in ["oci:layout", "docker-archive:archive"] {
        let copied = strata.run(&["copy", "-q", "--platform", "linux/s390x", &name, to]);
        let said =
            format!("WARNING: image with reference {name} was found but its platform (linux/");
        assert!(copied.stderr.starts_with(&said), "{copied}");
        assert!(copied.stdout.starts_with("sha256:"), "{copied}");
        assert_eq!(copied.code, 0);
    }
}

#[test]
fn settings_that_are_wrong_are_no_answer_of_a_registry() {
    let strata = strata();
    strata.write(
        "registries.toml",
        "[registry.\"q.io\"]\n\nlocation = \"there\"\n",
    );
    let path = strata.work("registries.toml").display().to_string();
    let strata = strata.variable("STRATA_REGISTRIES", &path);
    let failed = strata.run(&["copy", "q.io/a", "oci:a"]);
    let said = format!("invalid `{path}`: line 3: registry \"q.io\": `there` is not a place");
    assert!(failed.stderr.starts_with(&said), "{failed}");
}

#[test]
fn half_a_pair_of_certificates_is_told_with_its_files() {
    let strata = strata();
    strata.write("certs.d/127.0.0.1:1/me.cert", "");
    let directory = strata.work("certs.d").display().to_string();
    let strata = strata.variable("STRATA_CERTS_D", &directory);
    let half = format!("{directory}/127.0.0.1:1/me");
    assert_eq!(
        strata
            .run(&["copy", "127.0.0.1:1/a:1", "oci:a"])
            .to_string(),
        format!(
            "[stderr]\ncannot copy from `127.0.0.1:1/a:1`: `{half}.cert` needs `{half}.key` beside it\n[exit 1]\n"
        )
    );
}

#[test]
fn a_target_that_cannot_be_written_is_told_before_anything_is_fetched() {
    let (_server, _served, name) = registry();
    let strata = strata();
    strata.write("there/precious", "");
    for (to, said) in [
        ("oci:there:v1", "not an OCI layout"),
        ("oci-archive:none/a.tar", "No such file or directory"),
        ("docker-archive:there", "is there already"),
        ("docker-archive:a.tar:Upper", "must be lowercase"),
        ("oci:new:-x", "letters and digits"),
        ("oci-archive:-", "name a file"),
    ] {
        let failed = strata.run(&["copy", &name, to]);
        assert_eq!((failed.code, &*failed.stdout), (1, ""), "{to}: {failed}");
        assert!(failed.stderr.contains(said), "{to}: {failed}");
        assert!(!failed.stderr.contains("daemon"), "{to}: {failed}");
        assert_eq!(names(&strata), ["there"], "{to}");
    }
}
