//! A store, a context and base images for one test.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use build::{
    BaseImage, BaseImageError, BaseImages, BuildContext, BuildError, BuildOptions, Built, CacheUse,
    CheckOut, DockerfilePlace, Download, Event, GitSource, Network, Sandbox,
};
use layer::{Entry, EntryKind, Form, LayerDir, LayerWriter, Node, Timestamp, View};
use oci::{DiffId, Digest, History, ImageConfig, Platform, Reference};
use store::{NewImage, NewLayer, Pick, Store};

/// When every file of a base image changed.
pub(crate) const BASE_TIME: i64 = 1_500_000_000;

/// A store, a context and base images.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    pub(crate) store: Store,
    images: Images,
    pub(crate) form: Form,
}

#[derive(Default)]
struct Images {
    images: HashMap<String, BaseImage>,
    downloads: HashMap<String, Vec<u8>>,
    /// Commits by the name of a repository.
    commits: HashMap<String, String>,
    /// Their directories.
    check_outs: HashMap<String, PathBuf>,
}

impl BaseImages for Images {
    fn base_image(&self, name: &Reference, _: &Platform) -> Result<BaseImage, BaseImageError> {
        let found = self.images.get(&name.familiar()).cloned();
        found.ok_or_else(|| "not found".into())
    }

    fn layout_image(
        &self,
        path: &Path,
        pick: &Pick,
        _: &Platform,
    ) -> Result<BaseImage, BaseImageError> {
        let found = self
            .images
            .get(&format!("{} {pick:?}", path.display()))
            .cloned();
        found.ok_or_else(|| "no such layout".into())
    }

    fn git_commit(&self, source: &GitSource) -> Result<String, BaseImageError> {
        let found = self.commits.get(&source.to_string()).cloned();
        found.ok_or_else(|| "no such repository".into())
    }

    fn git_check_out(&self, _: &GitSource, commit: &str) -> Result<CheckOut, BaseImageError> {
        let directory = self.check_outs.get(commit).cloned();
        let directory = directory.ok_or("no such commit")?;
        Ok(Box::new(directory))
    }

    fn download(&self, url: &str) -> Result<Download, BaseImageError> {
        let content = self.downloads.get(url).cloned().ok_or("404 Not Found")?;
        Ok(Download {
            content: Box::new(Cursor::new(content)),
            last_modified: Some(BASE_TIME),
        })
    }
}

/// A file of a base image.
pub(crate) fn entry(path: &str, kind: EntryKind, mode: u32) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: Timestamp {
            seconds: BASE_TIME,
            nanoseconds: 0,
        },
        xattrs: BTreeMap::new(),
    }
}

pub(crate) fn link(target: &str) -> EntryKind {
    EntryKind::Symlink {
        target: target.as_bytes().to_vec(),
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        fs::create_dir(path.join("context")).expect("a new directory");
        let store = Store::open(&path.join("store"), &path.join("run")).expect("a new store");
        let form = Form::probe(path);
        Self {
            directory,
            store,
            images: Images::default(),
            form,
        }
    }

    /// A bench whose image `base` has a root, users, and busybox.
    pub(crate) fn with_busybox() -> Self {
        let mut bench = Self::new();
        let busybox = fs::read("/bin/busybox").expect("Debian's busybox-static");
        let size = u64::try_from(busybox.len()).expect("small");
        let mut files: Vec<(Entry, Vec<u8>)> = Vec::new();
        for path in ["bin", "etc", "tmp", "home"] {
            files.push((entry(path, EntryKind::Directory, 0o755), Vec::new()));
        }
        files.push((
            entry("bin/busybox", EntryKind::File { size }, 0o755),
            busybox,
        ));
        for name in [
            "sh", "echo", "cat", "ls", "mkdir", "touch", "rm", "id", "chmod", "stat", "env",
            "sleep", "mv", "date", "ln", "test", "true", "wc", "grep", "cp", "dd",
        ] {
            let path = format!("bin/{name}");
            files.push((entry(&path, link("busybox"), 0o777), Vec::new()));
        }
        for (path, text) in [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home:/bin/sh\n",
            ),
            ("etc/group", "root:x:0:\nstaff:x:50:\n"),
        ] {
            let size = u64::try_from(text.len()).expect("small");
            files.push((entry(path, EntryKind::File { size }, 0o644), text.into()));
        }
        bench.image("base", &files, |_| {});
        bench
    }

    /// Makes an image with one layer.
    pub(crate) fn image(
        &mut self,
        name: &str,
        files: &[(Entry, Vec<u8>)],
        change: impl FnOnce(&mut ImageConfig),
    ) {
        let scratch = self.store.scratch().expect("scratch");
        let mut writer = LayerWriter::create(scratch.path()).expect("a writer");
        for (entry, content) in files {
            let mut content = content.as_slice();
            writer.append(entry, &mut content).expect("a new layer");
        }
        let made = writer.finish().expect("a new layer");
        let layer = NewLayer {
            diff_id: made.diff_id,
            tar_size: made.tar_size,
            content_size: made.content_size,
            entries: made.entries,
        };
        self.store
            .commit_layer(scratch, &layer)
            .expect("a new layer");
        let mut config = ImageConfig::scratch(&Platform::host());
        config.rootfs.diff_ids = vec![made.diff_id];
        config.created = Some("2017-07-14T02:40:00Z".to_owned());
        config.history = vec![History {
            created: config.created.clone(),
            comment: "Imported from -".to_owned(),
            ..History::default()
        }];
        change(&mut config);
        let image = NewImage {
            config: &config.to_bytes(),
            manifest: None,
            parent: None,
            times: &[],
        };
        let id = self.store.put_image(&image).expect("an image");
        let name = Reference::parse(name).expect("a name").or_latest();
        let familiar = name.familiar();
        self.images
            .images
            .insert(familiar, BaseImage { id, config });
    }

    /// Makes an image of an OCI layout: its directory, and which image is picked.
    pub(crate) fn layout(&mut self, place: &str, files: &[(Entry, Vec<u8>)]) {
        self.image("layout", files, |_| {});
        let image = self.images.images.remove("layout:latest").expect("made");
        self.images.images.insert(place.to_owned(), image);
    }

    /// Makes the result of a build a base image.
    pub(crate) fn base(&mut self, name: &str, built: &Built) {
        let config = ImageConfig::parse(&built.config).expect("valid");
        let name = Reference::parse(name).expect("a name").or_latest();
        let image = BaseImage {
            id: built.id,
            config,
        };
        self.images.images.insert(name.familiar(), image);
    }

    pub(crate) fn serve(&mut self, url: &str, content: &[u8]) {
        let downloads = &mut self.images.downloads;
        downloads.insert(url.to_owned(), content.to_vec());
    }

    /// Makes a directory the commit that a repository gives.
    pub(crate) fn commit(&mut self, repository: &str, commit: &str, directory: PathBuf) {
        let commits = &mut self.images.commits;
        commits.insert(repository.to_owned(), commit.to_owned());
        self.images.check_outs.insert(commit.to_owned(), directory);
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().expect("in the context")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        let path = self.context().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        symlink(target, self.context().join(path)).expect("a link");
    }

    pub(crate) fn options(&self, dockerfile: &str) -> BuildOptions {
        BuildOptions {
            dockerfile: dockerfile.as_bytes().to_vec(),
            dockerfile_name: "Dockerfile".to_owned(),
            dockerfile_place: DockerfilePlace::Nowhere,
            context: Some(self.context()),
            contexts: BTreeMap::new(),
            result: build::ResultKind::Image,
            tags: vec![Reference::parse("result").expect("valid").or_latest()],
            build_args: BTreeMap::new(),
            target: None,
            platform: Platform::host(),
            other_platforms: Vec::new(),
            cache: CacheUse::Use,
            labels: BTreeMap::new(),
            epoch: None,
            sandbox: Sandbox {
                network: Network::None,
                hosts: Vec::new(),
                limits: runtime::Limits::default(),
            },
            uncached_stages: Vec::new(),
            inline_cache: build::InlineCache::Leave,
            jobs: 2,
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
        }
    }

    pub(crate) fn run(&self, options: &BuildOptions) -> (Result<Built, BuildError>, Vec<Event>) {
        let events = Mutex::new(Vec::new());
        let progress = |event| events.lock().expect("no panic").push(event);
        let result = self.run_with(options, &AtomicBool::new(false), &progress);
        (result, events.into_inner().expect("no panic"))
    }

    pub(crate) fn run_with(
        &self,
        options: &BuildOptions,
        cancel: &AtomicBool,
        progress: &(dyn Fn(Event) + Sync),
    ) -> Result<Built, BuildError> {
        let context = BuildContext {
            store: &self.store,
            base_images: &self.images,
            caches: &[],
            exports: &[],
            form: self.form,
            cancel,
            progress,
        };
        build::build(&context, options)
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Built {
        let (result, _) = self.run(&self.options(dockerfile));
        result.unwrap_or_else(|error| panic!("{error}\n{:?}", error.location))
    }

    /// The error of a build that must fail.
    pub(crate) fn fail(&self, dockerfile: &str) -> BuildError {
        let (result, _) = self.run(&self.options(dockerfile));
        result.map(|built| built.id).expect_err("the build fails")
    }

    pub(crate) fn config(&self, built: &Built) -> ImageConfig {
        ImageConfig::parse(&built.config).expect("valid")
    }

    pub(crate) fn view(&self, built: &Built) -> View {
        let config = self.config(built);
        let dir = |layer| LayerDir::new(self.store.layer_dir(layer));
        let layers: Vec<LayerDir> = config.rootfs.diff_ids.iter().map(dir).collect();
        View::open(&layers).expect("layers")
    }

    /// The files of the result below `path`: type, mode, owner, path, content.
    pub(crate) fn files(&self, built: &Built, path: &str) -> Vec<String> {
        let view = self.view(built);
        let mut lines = Vec::new();
        if let Some(node) = view.lookup_no_follow(path.as_bytes()).expect("readable") {
            describe(&view, &node, &mut lines);
        }
        lines
    }
}

/// The shared mounts of layers would keep the directory from being removed.
impl Drop for Bench {
    fn drop(&mut self) {
        let mounts = self.store.layer_mounts_dir();
        let names = fs::read_dir(&mounts).into_iter().flatten().flatten();
        for name in names.map(|entry| entry.file_name()) {
            if let Some(digest) = name.to_str().and_then(Digest::from_hex) {
                layer::rootfs::unmount_layer(&mounts, &DiffId(digest)).expect("not in use");
            }
        }
    }
}

fn describe(view: &View, node: &Node, lines: &mut Vec<String>) {
    let entry = &node.entry;
    let path = String::from_utf8_lossy(&entry.path);
    let head = format!("{:o} {}:{} {path}", entry.mode, entry.uid, entry.gid);
    lines.push(match &entry.kind {
        EntryKind::File { .. } => {
            let mut text = String::new();
            let mut reader = view.open_file(node).expect("readable");
            let read: io::Result<usize> = reader.read_to_string(&mut text);
            read.expect("text");
            format!("f {head} {text:?}")
        }
        EntryKind::Directory => format!("d {head}"),
        EntryKind::Symlink { target } => {
            format!(
                "l {}:{} {path} -> {}",
                entry.uid,
                entry.gid,
                String::from_utf8_lossy(target)
            )
        }
        EntryKind::Hardlink { .. }
        | EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. }
        | EntryKind::Fifo => format!("? {head}"),
    });
    if entry.kind == EntryKind::Directory {
        for (_, child) in view.read_dir(node).expect("readable") {
            describe(view, &child, lines);
        }
    }
}

/// Makes a tar with one file, and a link that leads out.
pub(crate) fn archive(name: &str, content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len()).expect("small"));
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1);
    builder
        .append_data(&mut header, name, content.as_bytes())
        .expect("memory");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    header.set_mtime(1);
    builder
        .append_link(&mut header, "out", "../../outside")
        .expect("memory");
    builder.into_inner().expect("memory")
}

/// Tells whether a directory has a file of this name.
pub(crate) fn exists(directory: &Path, name: &str) -> bool {
    directory.join(name).exists()
}
