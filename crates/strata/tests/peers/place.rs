//! One test's directory, and other programs that keep everything in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::base;
use crate::strata::Strata;

/// What the programs need to find theirs; nothing else of the caller's environment counts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const CONTAINERS_CONF: &str = r#"[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
"#;

const REGISTRIES_CONF: &str = r#"unqualified-search-registries = []
[[registry]]
location = "127.0.0.1"
insecure = true
"#;

const APP: &str = r#"FROM base:1
COPY told.txt /app/
RUN echo built > /app/built && rm /srv/dangling && chmod 0700 /srv
CMD ["cat", "/app/built"]
"#;

const POLICY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// A directory that is removed, with all mounts below it, at the end of the test.
///
/// ```text
/// base.tar     the root file system of test images
/// home/        configuration of skopeo, podman and buildah
/// containers/  storage of podman and buildah
/// <name>/      one store of strata
/// ```
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    /// Makes the directory, with `base.tar` in it.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("peers").tempdir().unwrap();
        let place = Self { directory };
        for name in ["home/.config/containers", "containers", "tmp", "runtime"] {
            fs::create_dir_all(place.path(name)).unwrap();
        }
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            place.text("containers/graph"),
            place.text("containers/run")
        );
        place.write("home/storage.conf", &storage);
        place.write("home/containers.conf", CONTAINERS_CONF);
        place.write("home/.config/containers/registries.conf", REGISTRIES_CONF);
        place.write("home/.config/containers/policy.json", POLICY);
        fs::write(place.path("base.tar"), base::tar()).unwrap();
        place
    }

    /// Returns the path of `name` in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns [`Place::path`] as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Returns the store `name`, which comes to be with its first command.
    pub(crate) fn store(&self, name: &str) -> Strata<'_> {
        Strata::new(self, name)
    }

    /// Returns a store that has the image `base:1`.
    pub(crate) fn store_with_base(&self, name: &str) -> Strata<'_> {
        let store = self.store(name);
        let tar = self.text("base.tar");
        store.run(&["import", "-c", "CMD [\"/bin/sh\"]", &tar, "base:1"]);
        store
    }

    /// Returns a store that has `base:1` and `app:1`, which is built on it and prints `built`.
    pub(crate) fn store_with_app(&self, name: &str) -> Strata<'_> {
        let store = self.store_with_base(name);
        self.write("app/Dockerfile", APP);
        self.write("app/told.txt", "told\n");
        store.run(&["build", "-t", "app:1", "app"]);
        store
    }

    /// Returns a command that finds its configuration and storage in this directory only.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("CONTAINERS_CONF", self.path("home/containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.path("home/storage.conf"));
        command
    }

    /// Runs skopeo and returns what it printed.
    pub(crate) fn skopeo(&self, args: &[&str]) -> String {
        let command = self.command("skopeo", args);
        output(command)
    }

    /// Runs podman and returns what it printed.
    pub(crate) fn podman(&self, args: &[&str]) -> String {
        let tmpdir = self.text("containers/libpod");
        let words = [&["--tmpdir", &tmpdir], args].concat();
        output(self.command("podman", &words))
    }

    /// Runs `image` by podman, without network, and returns what it printed.
    pub(crate) fn podman_run(&self, image: &str, words: &[&str]) -> String {
        // crun refuses hosts that have the trees of both versions of cgroups.
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec podman \"$@\"";
        let tmpdir = self.text("containers/libpod");
        let alone = ["--mount", "--propagation", "private", "sh", "-c", script];
        let run = [
            "podman",
            "--tmpdir",
            &tmpdir,
            "run",
            "--rm",
            "--network",
            "none",
        ];
        // podman's own limits may be above those of the test.
        let limits = "--cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024";
        let limits: Vec<&str> = limits.split(' ').collect();
        let all = [&alone[..], &run, &limits, &[image], words].concat();
        output(self.command("unshare", &all))
    }

    /// Runs buildah and returns what it printed.
    pub(crate) fn buildah(&self, args: &[&str]) -> String {
        output(self.command("buildah", args))
    }

    /// Returns the id of podman's `image`, as docker writes ids.
    pub(crate) fn podman_id(&self, image: &str) -> String {
        let id = self.podman(&["image", "inspect", "--format", "{{.Id}}", image]);
        format!("sha256:{id}")
    }

    /// Returns the digest of the manifest that `place` leads to, by skopeo.
    pub(crate) fn manifest_digest(&self, place: &str) -> String {
        self.skopeo(&["inspect", "--format", "{{.Digest}}", place])
    }

    /// Returns the id of the image at `place`: the digest of its configuration, by skopeo.
    pub(crate) fn image_id(&self, place: &str) -> String {
        let manifest = self.skopeo(&["inspect", "--raw", place]);
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        manifest["config"]["digest"].as_str().unwrap().to_owned()
    }
}

/// How often removal starts anew because a process that strata left behind, to sync what it
/// wrote, has made a file meanwhile.
const REMOVALS: usize = 100;

impl Drop for Place {
    fn drop(&mut self) {
        for _ in 0..REMOVALS {
            unmount_below(self.directory.path());
            if fs::remove_dir_all(self.directory.path()).is_ok() {
                break;
            }
        }
    }
}

/// Unmounts everything below `directory`, the deepest and latest first.
pub(crate) fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in mounts.lines().rev() {
        let Some(point) = line.split(' ').nth(4).map(Path::new) else {
            continue;
        };
        if point.starts_with(directory) {
            let unmounted = Command::new("umount").arg("-l").arg(point).status();
            assert!(unmounted.unwrap().success(), "cannot unmount {point:?}");
        }
    }
}

/// Runs `command`, which has to succeed, and returns its standard output, trimmed.
pub(crate) fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
