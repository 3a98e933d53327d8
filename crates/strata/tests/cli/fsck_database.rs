//! `system fsck`: a damaged database.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use testkit::cli::CommandLine;

use crate::fsck::{FORMAT, flip};
use crate::strata;

const PAGE: usize = 4096;

/// A small store, and the files of its database.
struct Small {
    strata: CommandLine,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// What a user sees of the records.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    images: String,
    containers: String,
    history: String,
}

impl Small {
    fn new() -> Self {
        let strata = strata();
        strata.import_small("demo:1");
        strata
            .run_with(&["import", "-", "demo:2"], &[0; 1024])
            .succeeded();
        strata
            .run(&["tag", "demo:1", "localhost:5000/other:3"])
            .succeeded();
        strata.write("Dockerfile", "FROM demo:1\nLABEL a=b\nCOPY Dockerfile /\n");
        strata
            .run(&["build", "-q", "-t", "built:1", "."])
            .succeeded();
        strata
            .run(&["create", "--name", "web", "demo:1", "/none"])
            .succeeded();
        strata.run(&["tag", "demo:2", "demo:1"]).succeeded();
        assert!(strata.settle());
        // Others may have been overtaken while they made the copy.
        strata.run(&["system", "fsck", "--repair"]).succeeded();
        assert!(strata.settle());
        let mut small = Self {
            strata,
            files: BTreeMap::new(),
        };
        for name in [
            "db.sqlite",
            "db.sqlite-wal",
            "db.sqlite.copy",
            "db.sqlite.sums",
        ] {
            let path = small.strata.path("root").join(name);
            let bytes = fs::read(&path).expect("the file is there");
            small.files.insert(path, bytes);
        }
        small
    }

    fn database(&self) -> PathBuf {
        self.strata.path("root/db.sqlite")
    }

    fn copy(&self) -> PathBuf {
        self.strata.path("root/db.sqlite.copy")
    }

    fn pages(&self) -> usize {
        self.files[&self.database()].len() / PAGE
    }

    /// Makes the database what it was.
    fn reset(&self) {
        assert!(self.strata.settle());
        for entry in fs::read_dir(self.strata.path("root")).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if name.starts_with("db.sqlite") {
                fs::remove_file(path).expect("removed");
            }
        }
        let put_aside = fs::read_dir(self.strata.path("root/damaged"));
        for path in put_aside
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
        {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if let Some((_, name)) = name.split_once("containers-") {
                let id = name.split('-').next().expect("an id");
                fs::rename(&path, self.strata.path("root/containers").join(id)).expect("back");
            }
        }
        for (path, bytes) in &self.files {
            fs::write(path, bytes).expect("written");
        }
    }

    fn seen(&self) -> Seen {
        let run = |words: &[&str]| self.strata.run(words).to_string();
        Seen {
            images: run(&[
                "images",
                "-a",
                "--no-trunc",
                "--digests",
                "--format",
                FORMAT,
            ]),
            containers: run(&[
                "ps",
                "-a",
                "--no-trunc",
                "--format",
                "{{.ID}} {{.Names}} {{.Image}}",
            ]),
            history: run(&["reflog", "--no-trunc", "--format", "{{.Name}} {{.Command}}"]),
        }
    }

    /// Names and ids of images.
    fn images(&self) -> Vec<(String, String)> {
        let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
        let words = ["images", "-a", "--no-trunc", "--format", format];
        let text = self.strata.run(&words).stdout();
        let pairs = text
            .lines()
            .map(|line| line.split_once(' ').expect("two words"));
        pairs
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect()
    }
}

#[test]
fn a_byte_of_any_page_that_changes_is_found_and_put_right() {
    let small = Small::new();
    let before = small.seen();
    let whole = &small.files[&small.database()];
    let mut found_pages = 0;
    for page in 0..small.pages() {
        for offset in [0, 1777, PAGE - 1] {
            small.reset();
            flip(&small.database(), Some(page * PAGE + offset));
            let case = format!("page {}, byte {offset}", page + 1);
            let found = small.strata.run(&["system", "fsck"]);
            if found.code == 0 {
                // The page is in the log too, and is read from there.
                assert_eq!(small.seen(), before, "{case}");
                continue;
            }
            found_pages += 1;
            let what = format!("database pages changed: {}", page + 1);
            assert!(found.stdout.contains(&what), "{case}: {found}");
            if offset != 1777 {
                // Each repair waits for the disk.
                continue;
            }
            let repaired = small.strata.run(&["system", "fsck", "--repair"]);
            assert_eq!(repaired.code, 0, "{case}: {repaired}");
            assert!(
                fs::read(small.database()).expect("there") == *whole,
                "{case}"
            );
            assert_eq!(small.seen(), before, "{case}");
        }
    }
    assert!(found_pages > small.pages() * 2, "{found_pages}");
}

#[test]
fn a_bit_that_changes_in_the_copy_too_is_found_by_the_checksum() {
    let small = Small::new();
    let before = small.seen();
    for page in 0..small.pages() {
        small.reset();
        for path in [small.database(), small.copy()] {
            flip(&path, Some(page * PAGE + 3000));
        }
        let repaired = small.strata.run(&["system", "fsck", "--repair"]);
        assert_eq!(repaired.code, 0, "page {}: {repaired}", page + 1);
        assert_eq!(small.seen(), before, "page {}", page + 1);
    }
}

/// What is neither in the database nor in its copy is lost, but never silently.
#[test]
fn a_page_that_is_lost_in_the_copy_too_loses_no_image_silently() {
    let small = Small::new();
    let before = small.images();
    let mut salvaged = 0;
    for page in 0..small.pages() {
        for damage in ["two bits", "all"] {
            small.reset();
            for path in [small.database(), small.copy()] {
                match damage {
                    "two bits" => {
                        flip(&path, Some(page * PAGE + 90));
                        flip(&path, Some(page * PAGE + 3000));
                    }
                    _ => {
                        let mut bytes = fs::read(&path).expect("there");
                        bytes[page * PAGE..(page + 1) * PAGE].fill(0xa5);
                        fs::write(&path, bytes).expect("written");
                    }
                }
            }
            let case = format!("page {}, {damage}", page + 1);
            let found = small.strata.run(&["system", "fsck"]);
            if found.code == 0 {
                assert_eq!(small.images(), before, "{case}");
                continue;
            }
            let repaired = small.strata.run(&["system", "fsck", "--repair"]);
            let after = small.images();
            for (name, id) in &before {
                let is_there = after.iter().any(|(_, found)| found == id);
                let is_told = repaired.stdout.contains(name) || repaired.stdout.contains(id);
                assert!(is_there || is_told, "{case}: {name} is lost: {repaired}");
                match after.iter().find(|(found, _)| found == name) {
                    Some((_, found)) => assert_eq!(found, id, "{case}: {name} is another image"),
                    None => assert!(is_told, "{case}: the name {name} is lost: {repaired}"),
                }
            }
            let names = after.iter().map(|(name, _)| name);
            for name in names.filter(|name| !name.contains("<none>")) {
                assert!(
                    before.iter().any(|(known, _)| known == name),
                    "{case}: {name} never was: {repaired}"
                );
            }
            let again = small.strata.run(&["system", "fsck", "--full"]);
            assert!(
                again.code == 0 || repaired.code == 1,
                "{case}: {repaired}{again}"
            );
            if !repaired.stdout.contains("a new database") {
                // Tables that are empty are the same everywhere.
                continue;
            }
            salvaged += 1;
            let kept = fs::read_dir(small.strata.path("root")).expect("a directory");
            let is_kept = kept.flatten().any(|entry| {
                let name = entry.file_name();
                name.to_string_lossy().starts_with("db.sqlite.damaged-")
            });
            assert!(is_kept, "{case}: the old database is gone: {repaired}");
        }
    }
    assert!(salvaged > 10, "{salvaged}");
}

#[test]
fn a_database_that_is_gone_or_no_database_is_made_again_from_the_documents() {
    let small = Small::new();
    let ids: Vec<String> = small.images().into_iter().map(|(_, id)| id).collect();
    for damage in [None, Some(&b"nonsense"[..]), Some(b"")] {
        small.reset();
        for name in ["db.sqlite-wal", "db.sqlite.copy", "db.sqlite.sums"] {
            fs::remove_file(small.strata.path("root").join(name)).expect("removed");
        }
        match damage {
            None => fs::remove_file(small.database()).expect("removed"),
            Some(bytes) => fs::write(small.database(), bytes).expect("written"),
        }
        let found = small.strata.run(&["system", "fsck"]);
        assert_eq!(found.code, 1, "{damage:?}: {found}");
        let repaired = small.strata.run(&["system", "fsck", "--repair"]);
        let after: Vec<String> = small.images().into_iter().map(|(_, id)| id).collect();
        for id in &ids {
            assert!(after.contains(id), "{damage:?}: {id}: {repaired}");
            assert!(repaired.stdout.contains(id), "{damage:?}: {repaired}");
        }
        let again = small.strata.run(&["system", "fsck", "--full"]);
        assert_eq!(again.code, 0, "{damage:?}: {repaired}{again}");
    }
}

#[test]
fn a_log_that_changed_is_told_and_cut() {
    let strata = strata();
    strata.import_small("demo:1");
    assert!(strata.settle());
    // Nothing is left to the background by these: they stay in the log.
    let ids: Vec<String> = (0..5)
        .map(|number| {
            let name = format!("demo:t{number}");
            strata.run(&["tag", "demo:1", &name]).succeeded();
            name
        })
        .collect();
    assert!(strata.settle());
    let log = strata.path("root/db.sqlite-wal");
    let bytes = fs::read(&log).expect("there");
    let frames = (bytes.len() - 32) / (24 + PAGE);
    assert!(frames > 5, "{frames}");
    let second = 32 + (24 + PAGE) + 24 + 2000;
    flip(&log, Some(second));
    let found = strata.run(&["system", "fsck"]);
    assert_eq!(found.code, 1, "{found}");
    assert!(
        found.stdout.contains("database log changed: frame 2 of"),
        "{found}"
    );
    let repaired = strata.run(&["system", "fsck", "--repair"]);
    assert!(
        repaired
            .stdout
            .contains("what was recorded after that is lost"),
        "{repaired}"
    );
    let again = strata.run(&["system", "fsck", "--full"]);
    assert_eq!(again.code, 0, "{again}");
    let images = strata.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let images = images.stdout();
    assert!(images.contains("demo:1\n"), "{images}");
    assert!(ids.iter().any(|name| !images.contains(name.as_str())));
}

#[test]
fn a_damaged_copy_is_made_again() {
    let small = Small::new();
    let before = small.seen();
    for name in ["db.sqlite.copy", "db.sqlite.sums"] {
        small.reset();
        let path = small.strata.path("root").join(name);
        let mut bytes = fs::read(&path).expect("there");
        // A page that is not in the log.
        let position = bytes.len() / 2 + 40;
        bytes[position] ^= 1;
        fs::write(&path, bytes).expect("written");
        let found = small.strata.run(&["system", "fsck"]);
        assert_eq!(found.code, 1, "{name}: {found}");
        small
            .strata
            .run(&["system", "fsck", "--repair"])
            .succeeded();
        let again = small.strata.run(&["system", "fsck"]);
        assert_eq!(again.code, 0, "{name}: {again}");
        assert_eq!(small.seen(), before, "{name}");
    }
}
