//! Images made by others, on every path of strata's, and back to others. What was seen stands in
//! docs/compatibility-of-images.md.

use std::cell::RefCell;
use std::fs;

use oci::Digest;
use serde_json::Value;

use crate::made::{self, FORMS, Form};
use crate::place::{Place, output};
use crate::registry::Registry;
use crate::strata::Strata;

#[test]
fn privileged_what_podman_and_hands_make_keeps_its_digests_on_every_path() {
    check_all(&["podman", "hand"]);
}

#[test]
fn privileged_what_buildah_and_skopeo_make_keeps_its_digests_on_every_path() {
    check_all(&["buildah", "skopeo"]);
}

/// Sends every form of `makers` along every path, and tells all that differs together.
fn check_all(makers: &[&str]) {
    let place = Place::new();
    made::build(&place);
    let served = place.store("served");
    let other = Registry::strata(&served, &["--allow-push"]);
    let differences = RefCell::new(Vec::new());
    for form in FORMS.iter().filter(|form| makers.contains(&form.maker())) {
        let slug = form.slug();
        // A registry of its own, lest a peer finds the layers there in the form of the last case.
        let home = Registry::docker_in(&place, &format!("{slug}.registry"));
        made::make(&place, form, &home);
        let paths = Paths {
            place: &place,
            form,
            expected: Expected::at(&home),
            home: &home,
            other: &other,
            differences: &differences,
        };
        paths.pull_and_push();
        paths.copy();
        paths.load_a_layout();
        paths.give_back();
        paths.save_and_load();
    }
    let differences = differences.into_inner();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// What no path may change.
struct Expected {
    /// The digest at the tag: of the index, where there is one.
    whole: String,
    /// The digest of this machine's manifest.
    one: String,
    /// The digest of its configuration.
    id: String,
}

impl Expected {
    fn at(registry: &Registry) -> Self {
        let whole = registry.digest("made:1");
        let read = |of: &str| -> Value { serde_json::from_slice(&registry.manifest(of)).unwrap() };
        let is_ours = |part: &&Value| part["platform"]["architecture"] == "amd64";
        let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
        let parts = &read("made:1")["manifests"];
        let ours = parts.as_array().map(|parts| parts.iter().find(is_ours));
        let one = ours.map_or_else(|| whole.clone(), |part| text(part.unwrap()));
        let id = text(&read(&format!("made@{one}"))["config"]);
        Self { whole, one, id }
    }

    fn is_index(&self) -> bool {
        self.whole != self.one
    }
}

/// One image on its paths: made at `home`, as `made:1`.
struct Paths<'a> {
    place: &'a Place,
    form: &'a Form,
    expected: Expected,
    home: &'a Registry,
    other: &'a Registry,
    differences: &'a RefCell<Vec<String>>,
}

impl<'a> Paths<'a> {
    fn expect(&self, path: &str, found: &str, expected: &str) {
        if found != expected {
            let name = self.form.name;
            let difference = format!("{name}: {path}: {found}, not {expected}");
            self.differences.borrow_mut().push(difference);
        }
    }

    /// Returns a store that is this image's alone.
    fn store(&self, name: &str) -> Strata<'a> {
        self.place.store(&format!("{}.{name}", self.form.slug()))
    }

    fn text(&self, name: &str) -> String {
        self.place.text(&format!("{}.{name}", self.form.slug()))
    }

    /// Returns the name of something of this image at the registry that all share.
    fn away(&self, name: &str) -> String {
        format!("{}:{name}", self.form.slug())
    }

    fn pull_and_push(&self) {
        let made = self.home.reference("made:1");
        for (name, pull) in [
            ("one", &["pull", &made][..]),
            ("whole", &["pull", "--all-platforms", &made]),
        ] {
            let store = self.store(name);
            store.run(pull);
            self.expect(&pull.join(" "), &store.id(&made), &self.expected.id);
            self.push(&store, &made, name);
        }
    }

    /// Pushes `image` to both registries as `name`, which says what of it goes.
    fn push(&self, store: &Strata<'_>, image: &str, name: &str) {
        let expected = match name.starts_with("one") {
            true => &self.expected.one,
            false => &self.expected.whole,
        };
        let beside = format!("{name}:1");
        for (registry, name) in [(self.home, beside), (self.other, self.away(name))] {
            let to = registry.reference(&name);
            store.run(&["tag", image, &to]);
            store.run(&["push", &to]);
            self.expect(&format!("push {name}"), &registry.digest(&name), expected);
        }
    }

    fn copy(&self) {
        let store = self.store("copier");
        let made = self.home.reference("made:1");
        let layout = self.text("layout");
        let image = format!("oci:{layout}:made");
        let archive = format!("oci-archive:{}:made", self.text("layout.tar"));
        let again = self.home.reference("from-layout:1");
        let away = self.other.reference(&self.away("copied"));
        for (from, to) in [
            (&made, &away),
            (&made, &image),
            (&image, &archive),
            (&archive, &again),
        ] {
            let told = store.run(&["copy", "-q", from, to]);
            self.expect(&format!("copy {from} {to}"), &told, &self.expected.whole);
        }
        for (path, found) in [
            ("away", self.other.digest(&self.away("copied"))),
            ("to a layout", digest_in_layout(&layout)),
            ("from an archive", self.home.digest("from-layout:1")),
        ] {
            self.expect(&format!("copied {path}"), &found, &self.expected.whole);
        }
    }

    fn save_and_load(&self) {
        let made = self.home.reference("made:1");
        let id = &self.expected.id;
        let archive = |name: &str| self.text(&format!("{name}.tar"));
        for name in ["one", "whole"] {
            let store = self.store(name);
            store.run(&["save", "-o", &archive(name), &made]);
            let loaded = self.store(&format!("{name}-loaded"));
            loaded.run(&["load", "-q", "-i", &archive(name)]);
            self.expect(&format!("load {name}"), &loaded.id(&made), id);
            self.push(&loaded, &made, &format!("{name}-loaded"));
            if name == "whole" && self.expected.is_index() {
                let from = format!("oci-archive:{}", archive(name));
                let to = self.home.reference("from-archive:1");
                let told = loaded.run(&["copy", "-q", &from, &to]);
                self.expect("copy of an archive", &told, &self.expected.whole);
            }
        }
        for transport in ["docker-archive", "oci-archive"] {
            let found = format!("{transport}:{}", archive("one"));
            let found = self.place.image_id(&found);
            self.expect(&format!("skopeo of a {transport}"), &found, id);
        }
        let kinds = ["one", "whole"];
        for name in &kinds[..=usize::from(self.expected.is_index())] {
            self.read("podman", &["load", "-q", "-i", &archive(name)]);
            let found = self.read("podman", &["image", "inspect", "-f", "{{.Id}}", &made]);
            self.expect(
                &format!("podman load {name}"),
                &format!("sha256:{found}"),
                id,
            );
        }
    }

    /// What skopeo makes of the image in a layout loads, and pushes as it is there.
    fn load_a_layout(&self) {
        let layout = self.text("skopeo");
        let name = "localhost/skopeo:1";
        let from = self.home.transport("made:1");
        let to = format!("oci:{layout}:{name}");
        self.place.skopeo(&["copy", "-q", "--all", &from, &to]);
        let archive = self.text("skopeo.tar");
        let tar = ["-C", &layout, "-cf", &archive, "."];
        output(self.place.command("tar", &tar));
        let store = self.store("skopeo-loaded");
        store.run(&["load", "-q", "-i", &archive]);
        let pushed = self.home.reference("skopeo:1");
        store.run(&["tag", name, &pushed]);
        store.run(&["push", &pushed]);
        let found = self.home.digest("skopeo:1");
        self.expect("load of a layout", &found, &digest_in_layout(&layout));
    }

    /// Others take what was pushed.
    fn give_back(&self) {
        let pushed = self.other.transport(&self.away("whole"));
        let directory = self.text("back");
        let to = format!("dir:{directory}");
        let copy = ["copy", "-q", "--all", "--preserve-digests", &pushed, &to];
        self.place.skopeo(&copy);
        let manifest = fs::read(format!("{directory}/manifest.json")).unwrap();
        let found = Digest::of(&manifest).to_string();
        self.expect("skopeo of the pushed", &found, &self.expected.whole);
        for (program, name) in [("podman", "one"), ("buildah", "whole")] {
            let pushed = self.other.reference(&self.away(name));
            let found = format!("sha256:{}", self.read(program, &["pull", "-q", &pushed]));
            self.expect(&format!("{program} pull {name}"), &found, &self.expected.id);
        }
    }

    /// Runs podman or buildah on storage that is this image's alone.
    fn read(&self, program: &str, words: &[&str]) -> String {
        // podman refuses long names of this one.
        let (root, run) = (self.text(program), self.place.text("run"));
        let words = [&["--root", &root, "--runroot", &run], words].concat();
        match program {
            "podman" => self.place.podman(&words),
            program => output(self.place.command(program, &words)),
        }
    }
}

/// Returns the digest of the only image or index of a layout.
fn digest_in_layout(layout: &str) -> String {
    let index = fs::read(format!("{layout}/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let images = index["manifests"].as_array().unwrap();
    assert_eq!(images.len(), 1, "{layout}");
    images[0]["digest"].as_str().unwrap().to_owned()
}
