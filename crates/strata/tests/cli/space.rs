//! `system df`, `system prune`, `container prune`: what takes the disk, and how it comes back.

use std::fs;

use testkit::cli::CommandLine;

use crate::strata;

/// Makes a container of `image` that has written 100,000 bytes; returns its id.
fn container(strata: &CommandLine, image: &str, name: &str) -> String {
    let created = strata.run(&["create", "--name", name, image, "x"]).stdout();
    let id = created.trim().to_owned();
    let directory = strata.path("root/containers").join(&id);
    fs::write(directory.join("written"), vec![1; 100_000]).expect("written");
    id
}

/// Builds an image of two steps.
fn build(strata: &CommandLine, name: &str) {
    strata.write("Dockerfile", "FROM demo:1\nCOPY a /a\nCOPY b /b\n");
    strata.write("a", "a");
    strata.write("b", name);
    strata.run(&["build", "-q", "-t", name, "."]).succeeded();
}

/// Returns a row of `system df` as its cells.
fn row(text: &str, kind: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.starts_with(kind));
    let line = line.unwrap_or_else(|| panic!("no {kind}: {text}"));
    let cells = line[kind.len()..].split_whitespace();
    cells.map(str::to_owned).collect()
}

#[test]
fn an_empty_store_has_dockers_rows_and_its_own() {
    let strata = strata();
    let text = strata.run(&["system", "df"]).stdout();
    assert!(
        text.starts_with(
            "TYPE                TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images              0         0         0B        0B\n\
             Containers          0         0         0B        0B\n\
             Local Volumes       0         0         0B        0B\n\
             Build Cache         0         0         0B        0B\n"
        ),
        "{text}"
    );
    let json = strata.run(&["system", "df", "--format", "json"]).stdout();
    assert_eq!(
        json.lines().next(),
        Some(
            "{\"Active\":\"0\",\"Reclaimable\":\"0B\",\"Size\":\"0B\",\"TotalCount\":\"0\",\"Type\":\"Images\"}"
        )
    );
    assert_eq!(json.lines().count(), 10);
    let words = ["system", "df", "--format", "{{.Type}}:{{.TotalCount}}"];
    assert!(strata.run(&words).stdout().contains("\nLocal Volumes:0\n"));
    assert_eq!(strata.run(&["system", "df", "x"]).code, 1);
    assert_eq!(strata.run(&["system", "df", "--bogus"]).code, 125);
}

#[test]
fn disk_usage_is_told_by_kind_and_by_thing() {
    let strata = strata();
    strata.import_small("demo:1");
    build(&strata, "app:1");
    build(&strata, "app:2");
    strata.run(&["rmi", "app:1"]).succeeded();
    let id = container(&strata, "app:2", "web");
    strata.settle();
    let text = strata.run(&["system", "df"]).stdout();
    assert_eq!(row(&text, "Images")[..2], ["2", "1"], "{text}");
    assert_eq!(row(&text, "Containers")[..2], ["1", "0"], "{text}");
    assert!(row(&text, "Containers").join(" ").ends_with("kB (100%)"));
    let cache = row(&text, "Build Cache");
    assert_eq!(cache[..2], ["3", "0"], "{text}");
    assert_eq!(cache[2], cache[3], "{text}");
    let du = std::process::Command::new("du")
        .args(["-s", "--block-size=1"])
        .arg(strata.path("root"))
        .output()
        .expect("du runs");
    let du = String::from_utf8(du.stdout).expect("text");
    let du: u64 = du.split('\t').next().expect("a size").parse().expect("one");
    let total = row(&text, "Total");
    let told: f64 = total[2].trim_end_matches("kB").parse().expect("kB");
    let du = f64::from(u32::try_from(du).expect("small")) / 1000.0;
    assert!((told - du).abs() < 0.11, "{du} is not {text}");

    let verbose = strata.run(&["system", "df", "-v"]).stdout();
    let sections: Vec<&str> = verbose
        .lines()
        .filter(|line| line.contains("usage:"))
        .collect();
    let cached = format!("Build cache usage: {}", cache[2]);
    assert_eq!(
        sections,
        [
            "Images space usage:",
            "Containers space usage:",
            "Local Volumes space usage:",
            &cached
        ]
    );
    let line = |start: &str| {
        let line = verbose.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start}: {verbose}"))
    };
    assert!(line("REPOSITORY").ends_with("SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS"));
    assert!(line("app").ends_with("   1"), "{verbose}");
    assert!(line("CONTAINER ID").contains("LOCAL VOLUMES   SIZE"));
    assert!(line(&id[..12]).contains("0               1"), "{verbose}");
    assert!(line("CACHE ID").ends_with("USAGE     SHARED"));
    let words = [
        "system",
        "df",
        "-v",
        "--format",
        "{{len .Images}} {{len .BuildCache}}",
    ];
    assert_eq!(strata.run(&words).stdout(), "2 3\n");
}

#[test]
fn a_system_prune_asks_in_dockers_words() {
    let strata = strata();
    let prune = |words: &[&str]| {
        let mut all = vec!["system", "prune"];
        all.extend(words);
        strata.run(&all)
    };
    assert_eq!(
        prune(&[]).stdout(),
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at \
         least one container\n  - all dangling images\n  - unused build cache\n\nAre you sure you \
         want to continue? [y/N] "
    );
    assert_eq!(
        prune(&["-a", "--volumes"]).stdout(),
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at \
         least one container\n  - all anonymous volumes not used by at least one container\n  - \
         all images without at least one container associated to them\n  - all build cache\n\nAre \
         you sure you want to continue? [y/N] "
    );
    let asked = prune(&["--filter", "until=24h", "--filter", "label!=a"]).stdout();
    assert!(
        asked.contains(
            "  - unused build cache\n\n  Items to be pruned will be filtered with:\n  - \
             label!=a\n  - until=24h\n\nAre you sure"
        ),
        "{asked}"
    );
    assert_eq!(
        prune(&["--filter", "bogus=1"]).to_string(),
        "[stderr]\nError response from daemon: invalid filter 'bogus'\n[exit 1]\n"
    );
    assert_eq!(
        prune(&["--volumes", "--filter", "until=1h"]).to_string(),
        "[stderr]\nERROR: The \"until\" filter is not supported with \"--volumes\"\n[exit 1]\n"
    );
    assert!(
        prune(&["--bogus"]).to_string().starts_with(
            "[stderr]\nunknown flag: --bogus\n\nUsage:  strata system prune [OPTIONS]"
        )
    );
    assert_eq!(prune(&["--bogus"]).code, 125);
    assert_eq!(prune(&["x"]).code, 1);
    assert_eq!(prune(&["-f"]).stdout(), "Total reclaimed space: 0B\n");
}

#[test]
fn a_system_prune_removes_what_its_rehearsal_tells() {
    let strata = strata();
    strata.import_small("demo:1");
    build(&strata, "app:1");
    let id = container(&strata, "app:1", "web");
    let told = strata.run(&["system", "prune", "-a", "--dry-run"]).stdout();
    let listed = strata.run(&["images"]).stdout();
    assert_eq!(listed, strata.run(&["images"]).stdout());
    assert!(
        told.starts_with(&format!(
            "Would delete Containers:\n{id}\n\nWould delete Images:\nuntagged: app:1\ndeleted: \
             sha256:"
        )) && told.contains("\nuntagged: demo:1\n")
            && told.contains("\n\nWould delete build cache objects:\n"),
        "{told}"
    );
    assert_eq!(strata.run(&["ps", "-aq", "--no-trunc"]).stdout().trim(), id);
    let done = strata.run(&["system", "prune", "-af"]).stdout();
    assert_eq!(
        done,
        told.replace("Would delete", "Deleted")
            .replace("reclaimable", "reclaimed")
    );
    assert_eq!(strata.run(&["images", "-aq"]).stdout(), "");
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
    let again = strata.run(&["system", "prune", "-af"]).stdout();
    assert_eq!(again, "Total reclaimed space: 0B\n");
}

#[test]
fn labels_select_containers_and_images_and_spare_the_build_cache() {
    let strata = strata();
    strata.import_small("demo:1");
    build(&strata, "app:1");
    for (name, label) in [("one", "keep=1"), ("two", "keep=0")] {
        let words = ["create", "--name", name, "--label", label, "demo:1", "x"];
        strata.run(&words).succeeded();
    }
    let words = ["system", "prune", "-af", "--filter", "label=keep=0"];
    let pruned = strata.run(&words).stdout();
    assert!(
        pruned.starts_with("Deleted Containers:\n") && !pruned.contains("build cache"),
        "{pruned}"
    );
    let left = strata.run(&["ps", "-a", "--format", "{{.Names}}"]).stdout();
    assert_eq!(left, "one\n");
    assert_eq!(strata.run(&["images", "-q"]).stdout().lines().count(), 2);
}

#[test]
fn a_prune_of_containers_tells_what_they_took() {
    let strata = strata();
    strata.import_small("demo:1");
    let id = container(&strata, "demo:1", "web");
    let told = strata.run(&["container", "prune", "--dry-run"]).stdout();
    let done = strata.run(&["container", "prune", "-f"]).stdout();
    assert_eq!(
        done,
        told.replace("Would delete", "Deleted")
            .replace("reclaimable", "reclaimed")
    );
    assert!(
        done.starts_with(&format!(
            "Deleted Containers:\n{id}\n\nTotal reclaimed space: 1"
        )) && done.ends_with("kB\n"),
        "{done}"
    );
    let filter = ["container", "prune", "-f", "--filter", "until=1h"];
    container(&strata, "demo:1", "young");
    assert_eq!(
        strata.run(&filter).stdout(),
        "Total reclaimed space: 0B\n",
        "too young"
    );
}

#[test]
fn image_and_builder_prune_tell_before_they_remove() {
    let strata = strata();
    strata.import_small("demo:1");
    build(&strata, "app:1");
    let told = strata
        .run(&["builder", "prune", "-a", "--dry-run"])
        .stdout();
    assert!(told.contains("Total reclaimable space:\t0B\n"), "{told}");
    let told = strata.run(&["image", "prune", "-a", "--dry-run"]).stdout();
    let done = strata.run(&["image", "prune", "-af"]).stdout();
    let as_done = |told: &str| {
        told.replace("Would delete", "Deleted")
            .replace("Total reclaimable space:\t", "Total:\t")
            .replace("reclaimable", "reclaimed")
    };
    assert_eq!(done, as_done(&told));
    let told = strata
        .run(&["builder", "prune", "-a", "--dry-run"])
        .stdout();
    let done = strata.run(&["builder", "prune", "-af"]).stdout();
    let total = |text: &str| text.lines().last().map(str::to_owned);
    assert_eq!(total(&done), total(&as_done(&told)));
    assert_ne!(total(&done).as_deref(), Some("Total:\t0B"));
}
