//! Laws of undoing, and of the history of tags.

use std::time::Duration;

use oci::{Digest, ImageId, MediaType, Reference};
use store::{
    Force, ImageRecord, JournalEntry, NewImage, Prune, PruneFilter, PruneScope, Purpose,
    ResolveError, Restored, Store, TagDocument, UndoError, UndoWindow,
};

use crate::fixture::{Fixture, config_with};

/// Prunes images only.
fn images(filter: &PruneFilter) -> Prune {
    Prune {
        images: Some(filter.clone()),
        ..Prune::default()
    }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).expect("valid").or_latest()
}

/// Returns a handle for a command that holds what it removes for long.
fn command(store: &Store, text: &str) -> Store {
    within(store, text, UndoWindow::Always(Duration::from_secs(3600)))
}

fn within(store: &Store, text: &str, window: UndoWindow) -> Store {
    store.operation(Purpose {
        kind: text.split(' ').next().unwrap_or_default().to_owned(),
        command: text.to_owned(),
        window,
    })
}

fn undo(store: &Store) -> Vec<Restored> {
    let undo = command(store, "undo").undo(None).expect("undone");
    assert!(undo.lost.is_empty() && undo.lost_documents.is_empty());
    undo.restored
}

/// All that people can see of images and their names.
#[derive(Debug, PartialEq)]
struct Visible {
    images: Vec<ImageRecord>,
    tags: Vec<(Reference, [Option<Digest>; 2], Vec<Digest>)>,
}

fn visible(store: &Store) -> Visible {
    let images = store.images().expect("read");
    let tags = images.iter().flat_map(|image| image.tags.clone());
    let mut names: Vec<Reference> = tags
        .chain(store.tags_with_documents().expect("read"))
        .collect();
    names.sort();
    names.dedup();
    let tags = names.into_iter().map(|name| {
        let manifest = store.tag_manifest(&name).expect("read");
        let document = store.tag_document(&name).expect("read");
        let parts = match document {
            Some(_) => store.tag_document_parts(&name).expect("read"),
            None => Vec::new(),
        };
        (name, [manifest, document], parts)
    });
    let tags = tags.collect();
    Visible { images, tags }
}

/// Makes an image that came from a registry, with all that can be recorded of it, and tags.
fn received(fixture: &Fixture, store: &Store, text: &str, tags: &[&str]) -> ImageId {
    let layer = fixture.layer(store, text.as_bytes());
    let config = config_with(&[layer], text);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[]}}"#,
        MediaType::OCI_CONFIG,
        Digest::of(&config),
        config.len()
    );
    let media_type = MediaType::from(MediaType::OCI_MANIFEST);
    let image = NewImage {
        config: &config,
        manifest: Some((&media_type, manifest.as_bytes())),
        parent: None,
        times: &[],
    };
    let id = store.put_image(&image).expect("stored");
    let put = |bytes: &[u8]| {
        store
            .put_blob(&"text/plain".into(), bytes)
            .expect("stored")
            .digest
    };
    let digest = Digest::of(manifest.as_bytes());
    for tag in tags {
        let tag = name(tag);
        store.tag(&tag, &id, Some(&digest)).expect("tagged");
        let own = put(format!("manifest of {tag}").as_bytes());
        store.set_tag_manifest(&tag, &own).expect("set");
        let parts = [put(format!("part {text}").as_bytes())];
        let document = TagDocument {
            document: put(format!("index of {tag}").as_bytes()),
            parts: &parts,
            image: Some(id),
        };
        store.set_tag_document(&tag, &document).expect("set");
    }
    id
}

/// What commands do.
type Change = fn(&Fixture, &Store);
const CHANGES: [(&str, Change); 7] = [
    ("rmi by name", |_, store| {
        store.remove_image("a:1", Force::No).expect("removed");
    }),
    ("rmi of all", |_, store| {
        for target in ["a:1", "a:2", "localhost:5000/b"] {
            store.remove_image(target, Force::No).expect("removed");
        }
    }),
    ("rmi by id", |_, store| {
        let id = store.resolve("localhost:5000/b").expect("there").id;
        let removed = store.remove_image(&id.to_string(), Force::Yes);
        removed.expect("removed");
    }),
    ("image prune", |_, store| {
        let filter = PruneFilter {
            scope: PruneScope::Unused,
            ..PruneFilter::default()
        };
        store.prune(&images(&filter)).expect("pruned");
    }),
    ("tag", |_, store| {
        let id = store.resolve("a:1").expect("there").id;
        store
            .tag(&name("localhost:5000/b"), &id, None)
            .expect("tagged");
        store.tag(&name("new:1"), &id, None).expect("tagged");
    }),
    ("untag", |_, store| {
        store.untag(&name("a:2")).expect("untagged");
        store.remove_tag_document(&name("a:1")).expect("forgotten");
        store.remove_tag_document(&name("bare")).expect("forgotten");
    }),
    ("pull", |fixture, store| {
        received(fixture, store, "newer", &["a:1", "fresh:1"]);
    }),
];

#[test]
fn an_undo_leaves_everything_as_it_was() {
    for (text, change) in CHANGES {
        let fixture = Fixture::new();
        let store = fixture.open();
        received(&fixture, &store, "first", &["a:1", "a:2"]);
        received(&fixture, &store, "second", &["localhost:5000/b"]);
        fixture.image(&store, "dangling");
        let part = store
            .put_blob(&"text/plain".into(), b"thing")
            .expect("stored");
        let bare = TagDocument {
            document: part.digest,
            parts: &[],
            image: None,
        };
        store.set_tag_document(&name("bare"), &bare).expect("set");
        let before = visible(&store);

        change(&fixture, &command(&store, text));
        assert_ne!(visible(&store), before, "{text}");
        store.sweep().expect("swept");
        let planned = store.rehearse_undo(None).expect("possible");
        let restored = undo(&store);
        assert_eq!(planned.restored, restored);
        let mut after = visible(&store);
        if text == "pull" {
            // What was pulled stays, without a name.
            let newer = after.images.iter().position(ImageRecord::is_dangling);
            let newer = after.images.remove(newer.expect("there"));
            assert!(newer.repo_digests.is_empty());
        }
        if text == "tag" || text == "pull" {
            // When an image was last given a name is not taken back.
            for (image, before) in after.images.iter_mut().zip(&before.images) {
                image.last_tagged = before.last_tagged;
            }
        }
        assert_eq!(after, before, "{text}");
        for image in &after.images {
            store.manifest_of(&image.id).expect("complete");
        }
        store.sweep().expect("swept");
        assert_eq!(
            store.undo_hold_ends().expect("read").is_some(),
            text == "pull"
        );
    }
}

#[test]
fn undoing_goes_back_step_by_step_and_ends() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (one, two) = (fixture.image(&store, "1"), fixture.image(&store, "2"));
    let tag = |id: &ImageId| {
        let own = command(&store, "tag a");
        own.tag(&name("a"), id, None).expect("tagged");
    };
    tag(&one);
    tag(&two);
    let own = command(&store, "rmi a");
    own.remove_image("a", Force::No).expect("removed");
    let now = || store.resolve("a").ok().map(|image| image.id);
    assert_eq!(now(), None);
    undo(&store);
    assert_eq!(now(), Some(two));
    undo(&store);
    assert_eq!(now(), Some(one));
    tag(&two);
    undo(&store);
    assert_eq!(now(), Some(one));
    assert_eq!(undo(&store), [Restored::Untagged("a:latest".to_owned())]);
    let error = store.undo(None).expect_err("at the beginning");
    assert_eq!(error.to_string(), "nothing to undo");
    let last = &store.operations().expect("read")[0];
    assert_eq!(last.command, "undo: tag a");
    let error = store.undo(Some(last.seq)).expect_err("an undo");
    assert!(matches!(error, UndoError::IsUndo(_)), "{error}");
    let undone = last.undoes.expect("an undo");
    let error = store.undo(Some(undone)).expect_err("undone");
    assert_eq!(error.to_string(), "`tag a` was undone already");
    let error = store.undo(Some(99)).expect_err("none");
    assert_eq!(error.to_string(), "no such operation: 99");
}

#[test]
fn what_another_command_has_changed_since_is_not_undone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let images: Vec<ImageId> = ["1", "2", "3"]
        .map(|text| fixture.image(&store, text))
        .into();
    for (at, text) in [(0, "tag one a"), (1, "tag two a"), (2, "pull a")] {
        let own = command(&store, text);
        own.tag(&name("a"), &images[at], None).expect("tagged");
    }
    let operations = store.operations().expect("read");
    let before = visible(&store);
    let error = store
        .undo(Some(operations[1].seq))
        .expect_err("moved since");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot undo `tag two a`: a:latest was changed since by `pull a` (operation {})",
            operations[0].seq
        )
    );
    assert_eq!(visible(&store), before);
    assert_eq!(store.operations().expect("read"), operations);
}

#[test]
fn without_a_window_what_is_removed_goes_at_once_and_an_undo_says_so() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = received(&fixture, &store, "a", &["localhost:5000/a:1"]);
    let layers = store.image(&id).expect("read").expect("there").layers;
    let own = within(&store, "rmi a", UndoWindow::None);
    own.remove_image("localhost:5000/a:1", Force::No)
        .expect("removed");
    assert_eq!(store.sweep().expect("swept").layers, layers);
    assert_eq!(store.undo_hold_ends().expect("read"), None);
    let before = (visible(&store), store.operations().expect("read"));
    let error = command(&store, "undo").undo(None).expect_err("gone");
    assert_eq!(
        error.to_string(),
        "cannot undo `rmi a`: what it removed is gone"
    );
    let UndoError::Lost(undo) = error else {
        panic!("{error}");
    };
    let lost = &undo.lost[0];
    assert_eq!((lost.id, &lost.missing), (id, &layers));
    assert_eq!(lost.names[0], "localhost:5000/a:1");
    let origin = lost.origin.as_ref().expect("known").to_string();
    assert!(origin.starts_with("localhost:5000/a@sha256:"), "{origin}");
    assert_eq!((visible(&store), store.operations().expect("read")), before);
}

#[test]
fn what_is_gone_does_not_keep_the_rest_from_coming_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let gone = received(&fixture, &store, "gone", &["gone:1"]);
    let layers = store.image(&gone).expect("read").expect("there").layers;
    // Another image has the same layers.
    let shared = fixture.image(&store, "kept");
    let other = NewImage {
        config: &config_with(
            &store.image(&shared).expect("read").expect("there").layers,
            "b",
        ),
        manifest: None,
        parent: None,
        times: &[],
    };
    let other = store.put_image(&other).expect("stored");
    store.tag(&name("kept:1"), &shared, None).expect("tagged");
    store.tag(&name("b"), &other, None).expect("tagged");
    let own = command(&store, "rmi");
    for target in ["gone:1", "kept:1"] {
        own.remove_image(target, Force::No).expect("removed");
    }
    let tar = store.layer_dir(&layers[0]).join("tar");
    std::fs::remove_file(tar).expect("removed by hand");
    let undo = command(&store, "undo").undo(None).expect("in part");
    let tagged = Restored::Tagged("kept:1".to_owned());
    assert_eq!(undo.restored, [Restored::Image(shared), tagged]);
    assert_eq!(undo.lost.len(), 1);
    assert_eq!((undo.lost[0].id, &undo.lost[0].missing), (gone, &layers));
    assert_eq!(store.resolve("kept:1").expect("back").id, shared);
    let error = store.undo(None).map(|undo| undo.operation.command);
    assert_eq!(error.expect("goes on before"), "");
}

/// Tells whether the time of something that was held is over.
fn has_ended_holds(store: &Store) -> bool {
    let end = store.undo_hold_ends().expect("read");
    end.is_some_and(|end| end <= store::Timestamp::now())
}

#[test]
fn what_is_removed_stays_until_its_time_is_over_or_space_is_needed() {
    type End = fn(&Store);
    let ends: [(&str, UndoWindow, End); 3] = [
        (
            "time",
            UndoWindow::Always(Duration::from_nanos(1)),
            |store| {
                assert!(has_ended_holds(store));
            },
        ),
        (
            "given up",
            UndoWindow::Always(Duration::from_secs(3600)),
            |store| {
                assert!(!has_ended_holds(store));
                store.sweep().expect("swept");
                assert!(store.held_for_undo().expect("read") > 0);
                assert!(store.give_up_undo().expect("given up"));
            },
        ),
        (
            "undone",
            UndoWindow::Always(Duration::from_secs(3600)),
            |store| {
                undo(store);
                let filter = PruneFilter {
                    scope: PruneScope::Unused,
                    ..PruneFilter::default()
                };
                store.prune(&images(&filter)).expect("pruned");
            },
        ),
    ];
    for (text, window, end) in ends {
        let fixture = Fixture::new();
        let store = fixture.open();
        let id = received(&fixture, &store, "a", &["a:1"]);
        let layers = store.image(&id).expect("read").expect("there").layers;
        let own = within(&store, "rmi a:1", window);
        own.remove_image("a:1", Force::No).expect("removed");
        end(&store);
        store.sweep().expect("swept");
        assert!(!store.has_layer(&layers[0]).expect("read"), "{text}");
        let left = std::fs::read_dir(store.root().join("blobs/sha256")).expect("there");
        assert_eq!(left.count(), 0, "{text}");
        assert_eq!(store.held_for_undo().expect("read"), 0);
        assert_eq!(store.undo_hold_ends().expect("read"), None);
        assert!(!store.give_up_undo().expect("nothing to give up"));
    }
}

#[test]
fn a_prune_reports_what_is_freed_when_its_time_is_over() {
    let reports = [
        UndoWindow::None,
        UndoWindow::Always(Duration::from_secs(3600)),
    ]
    .map(|window| {
        let fixture = Fixture::new();
        let store = fixture.open();
        received(&fixture, &store, "a", &["a:1"]);
        received(&fixture, &store, "b", &["b:1"]);
        // These two share a layer, which the second lets go.
        let shared = fixture.image(&store, "c");
        fixture.image(&store, "d");
        // What is held already is not this prune's, except for that layer.
        let own = within(&store, "rmi b", window);
        own.remove_image("b:1", Force::No).expect("removed");
        let removed = own.remove_image(&shared.to_string(), Force::No);
        removed.expect("removed");
        store.sweep().expect("swept");
        let own = within(&store, "image prune", window);
        let filter = PruneFilter {
            scope: PruneScope::Unused,
            ..PruneFilter::default()
        };
        let report = own.prune(&images(&filter)).expect("pruned");
        let held = store.held_for_undo().expect("read");
        (report.swept.bytes, held > 0)
    });
    assert_eq!(reports[0].0, reports[1].0);
    assert_eq!([reports[0].1, reports[1].1], [false, true]);
}

#[test]
fn a_change_that_fails_is_no_operation() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    let child = NewImage {
        config: &config_with(
            &store.image(&id).expect("read").expect("there").layers,
            "child",
        ),
        manifest: None,
        parent: Some(id),
        times: &[],
    };
    store.put_image(&child).expect("stored");
    let own = command(&store, "rmi");
    own.tag(&name("a"), &id, None).expect("tagged");
    let before = (visible(&store), store.operations().expect("read"));
    let fresh = command(&store, "rmi");
    let removed = fresh.remove_image(&id.to_string(), Force::Yes);
    removed.expect_err("it has a child");
    let unknown = ImageId(Digest::of(b"unknown"));
    fresh.tag(&name("b"), &unknown, None).expect_err("no image");
    assert_eq!((visible(&store), store.operations().expect("read")), before);
    // The handle goes on with an operation of its own.
    fresh.tag(&name("b"), &id, None).expect("tagged");
    assert_eq!(undo(&store), [Restored::Untagged("b:latest".to_owned())]);
}

fn entries(store: &Store, tag: &str) -> Vec<(String, Option<ImageId>, bool, String)> {
    let entries = store.journal(Some(&name(tag))).expect("read").into_iter();
    let row = |entry: JournalEntry| {
        (
            entry.name.to_string(),
            entry.image,
            entry.is_here,
            entry.command,
        )
    };
    entries.map(row).collect()
}

#[test]
fn the_history_of_a_tag_counts_back_from_what_it_is() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let tag = "localhost:5000/a:1";
    let (one, two) = (fixture.image(&store, "1"), fixture.image(&store, "2"));
    store.tag(&name(tag), &one, None).expect("tagged");
    let own = command(&store, "build");
    own.tag(&name(tag), &two, None).expect("tagged");
    own.tag(&name(tag), &two, None).expect("no change");
    let own = within(&store, "rmi", UndoWindow::None);
    own.remove_image(tag, Force::No).expect("removed");
    let entry = |back: usize, image, is_here, command: &str| {
        let name = format!("localhost:5000/a:1@{{{back}}}");
        (name, image, is_here, command.to_owned())
    };
    assert_eq!(
        entries(&store, tag),
        [
            entry(0, None, false, "rmi"),
            entry(1, Some(two), false, "build"),
            entry(2, Some(one), true, ""),
        ]
    );
    assert!(entries(&store, "other").is_empty());
    assert_eq!(store.journal(None).expect("read").len(), 3);

    let found = |back: &str| store.resolve(&format!("{tag}{back}"));
    assert_eq!(found("@{2}").expect("here").id, one);
    let text = found("@{0}").expect_err("removed").to_string();
    let start = "localhost:5000/a:1@{0} names no image: the tag was removed at ";
    assert!(
        text.starts_with(start) && text.ends_with(" by `rmi`"),
        "{text}"
    );
    let Err(ResolveError::Gone(gone)) = found("@{1}") else {
        panic!("the image is gone");
    };
    assert_eq!(gone.image, Some(two));
    assert_eq!(gone.removed.as_ref().expect("known").1, "rmi");
    assert!(gone.operation.is_some() && gone.origin.is_none());
    for (back, expected) in [
        (
            "@{99}",
            "the history of localhost:5000/a:1 has only 3 entries",
        ),
        (
            "@{}",
            "invalid entry of a name's history `localhost:5000/a:1@{}`: expected NAME[:TAG]@{N}, as in `app:1@{1}`",
        ),
    ] {
        assert_eq!(found(back).expect_err("none").to_string(), expected);
    }
    assert_eq!(
        store.resolve("nosuch@{0}").expect_err("none").to_string(),
        "the history of nosuch:latest has only 0 entries"
    );

    // An undo is one more change, and what it brought back can be named again.
    command(&store, "tag")
        .tag(&name(tag), &one, None)
        .expect("tagged");
    undo(&store);
    assert_eq!(entries(&store, tag)[0], entry(0, None, false, "undo: tag"));
    assert_eq!(found("@{1}").expect("here").id, one);
}

#[test]
fn only_the_last_operations_are_remembered() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let images = [fixture.image(&store, "1"), fixture.image(&store, "2")];
    for count in 0..1010 {
        store
            .tag(&name("a"), &images[count % 2], None)
            .expect("tagged");
    }
    store.sweep().expect("swept");
    let operations = store.operations().expect("read");
    assert_eq!(operations.len(), 1010);
    let oldest = operations.last().expect("there").seq;
    let error = store.undo(Some(oldest)).expect_err("forgotten");
    assert!(matches!(error, UndoError::Forgotten(_)), "{error}");
    store.undo(None).expect("the last is known");
}

#[test]
fn what_is_not_recorded_cannot_be_undone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    store
        .unrecorded()
        .tag(&name("a"), &id, None)
        .expect("tagged");
    assert!(store.operations().expect("read").is_empty());
    assert_eq!(entries(&store, "a").len(), 1, "the history knows");
    let error = store.undo(None).expect_err("nothing");
    assert!(matches!(error, UndoError::NothingToUndo));
}
