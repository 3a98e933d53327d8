//! Changes made at random, from fixed seeds.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use layer::{CaptureOptions, View, capture};

use crate::snapshot::{DirectoryTimes, assert_same, snapshot};
use crate::stack::{FORMS, Stack};
use crate::tarball::{directory, file};

/// A linear congruence: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn path(&mut self, root: &Path) -> PathBuf {
        let names = ["a", "b", "c", "d.e"];
        let mut path = root.to_owned();
        for _ in 0..=self.below(3) {
            path.push(names[self.below(names.len())]);
        }
        path
    }

    /// Does one thing that may be impossible, which is as good as nothing.
    fn step(&mut self, root: &Path) {
        let path = self.path(root);
        let other = self.path(root);
        let number = u32::try_from(self.below(1000)).unwrap();
        let outcome = match self.below(12) {
            0 | 1 => fs::write(&path, number.to_string()),
            2 | 3 => fs::create_dir_all(&path),
            4 => fs::remove_file(&path),
            5 => fs::remove_dir_all(&path),
            6 => fs::rename(&path, &other),
            7 => fs::hard_link(&path, &other),
            8 => symlink("../a/b", &path),
            9 => fs::symlink_metadata(&path).and_then(|status| {
                if status.is_symlink() {
                    return Ok(());
                }
                fs::set_permissions(&path, Permissions::from_mode(0o700 | (number & 0o77)))
            }),
            10 => lchown(&path, Some(number), Some(number / 2)),
            _ => sys::xattr::set(&path, b"user.x", number.to_string().as_bytes()),
        };
        drop(outcome);
    }
}

#[test]
fn privileged_random_changes_captured_layer_by_layer_show_what_the_container_saw() {
    for seed in 0..5 {
        for form in FORMS {
            let mut stack = Stack::of(&[
                &[
                    directory("a").mode(0o751),
                    directory("a/b"),
                    file("a/b/c", "1"),
                    file("b", "1"),
                ],
                &[file("c/a/b", "2"), file("c/b", "2"), file("a/.wh.none", "")],
            ]);
            let mut random = Random(seed);
            for round in 0..4 {
                let name = format!("rw{round}");
                let mounted = stack.mount_writable(form, &name);
                for _ in 0..25 {
                    random.step(&mounted.path());
                }
                drop(mounted);
                let mounted = stack.mount_writable(form, &name);
                let seen = snapshot(&mounted.path(), DirectoryTimes::Ignored);
                let upper = stack.path().join(name).join("upper");
                let view = View::open(&stack.layers).unwrap();
                stack.push_written(|writer| {
                    capture(&upper, &view, writer, &CaptureOptions::default()).unwrap();
                });
                let found = snapshot(&stack.mount(form).path(), DirectoryTimes::Ignored);
                assert_same(
                    &seen,
                    &found,
                    &format!("{form:?} seed {seed} round {round}"),
                );
            }
        }
    }
}
