//! Pulls from servers that fail again and again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::{Descriptor, DiffId, Digest, ImageConfig, Manifest, MediaType, Platform};
use registry::{ClientOptions, Retry};
use testkit::random::Random;

use crate::fixture::Shelf;
use crate::round_trips::pull;
use crate::scripted::{Asked, Reply, Script, impatient};

/// A registry in memory: what it answers by path.
#[derive(Default)]
struct Contents {
    documents: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    image: Option<Digest>,
}

impl Contents {
    /// An image `team/app:1` with layers of these lengths.
    fn new(lengths: &[usize]) -> Self {
        let mut contents = Self::default();
        let mut random = Random::new(7);
        let mut config = ImageConfig::scratch(&Platform::host());
        let mut layers = Vec::new();
        for length in lengths {
            let layer = random.bytes(length.next_multiple_of(512));
            config.rootfs.diff_ids.push(DiffId(Digest::of(&layer)));
            layers.push(contents.add(MediaType::OCI_LAYER, layer));
        }
        let config = contents.add(MediaType::OCI_CONFIG, config.to_bytes());
        contents.image = Some(config.digest);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST.into()),
            config,
            layers,
            annotations: None,
        };
        let manifest = serde_json::to_vec(&manifest).expect("json");
        let path = "/v2/team/app/manifests/1".to_owned();
        contents.documents.insert(path, manifest);
        contents
    }

    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        let path = format!("/v2/team/app/blobs/{}", descriptor.digest);
        self.blobs.insert(path, bytes);
        descriptor
    }

    /// What a server in good health answers.
    fn answer(&self, asked: &Asked) -> Reply {
        if let Some(manifest) = self.documents.get(asked.path()) {
            return Reply::manifest(manifest);
        }
        let Some(blob) = self.blobs.get(asked.path()) else {
            return Reply::json(200, "{}");
        };
        let start = asked.header("range").map(|range| {
            let start = range
                .strip_prefix("bytes=")
                .and_then(|r| r.split('-').next());
            start
                .and_then(|start| start.parse::<usize>().ok())
                .expect("a start")
        });
        match start {
            None => Reply::new(200).body(blob),
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
                Reply::new(206)
                    .header("Content-Range", &range)
                    .body(&blob[start..])
            }
        }
    }
}

#[test]
fn a_connection_that_drops_again_and_again_costs_nothing_twice() {
    const EVERY: usize = 100_000;
    let contents = Contents::new(&[3_000_000, 1_000, 450_000]);
    let (image, size) = (
        contents.image,
        contents.blobs.values().map(Vec::len).sum::<usize>(),
    );
    let sent = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let script = Script::start(move |_, asked| {
        let reply = contents.answer(asked);
        let length = reply.length();
        if contents.blobs.contains_key(asked.path()) {
            counted.fetch_add(length.min(EVERY), Ordering::SeqCst);
        }
        match length > EVERY {
            true => reply.cut(EVERY),
            false => reply,
        }
    });
    let here = Shelf::new();
    let pulled = pull(&here.store, &script.remote(), "app:1").expect("pulled");
    assert_eq!(Some(*pulled.digest()), image);
    assert_eq!(sent.load(Ordering::SeqCst), size);
}

#[test]
fn a_server_that_answers_badly_at_random_is_pulled_from_all_the_same() {
    for seed in 0..12 {
        let contents = Contents::new(&[400_000, 70_000, 1_500_000, 10]);
        let image = contents.image;
        let random = Mutex::new(Random::new(seed));
        let script = Script::start(move |_, asked| {
            let reply = contents.answer(asked);
            let mut random = random.lock().expect("not poisoned");
            match random.below(8) {
                0 => Reply::error(500, "UNKNOWN", "internal error"),
                1 => Reply::error(429, "TOOMANYREQUESTS", "slow down").header("Retry-After", "0"),
                2 => Reply::new(503),
                3 => {
                    let cut = random.below(reply.length().max(1));
                    reply.cut(cut)
                }
                _ => reply,
            }
        });
        let options = ClientOptions {
            retry: Retry {
                attempts: 12,
                ..impatient().retry
            },
            ..impatient()
        };
        let here = Shelf::new();
        let remote = script.remote_with(options, "team/app:1");
        let pulled = pull(&here.store, &remote, "app:1");
        let pulled = pulled.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_eq!(Some(*pulled.digest()), image, "seed {seed}");
    }
}
