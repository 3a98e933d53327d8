//! What the key of a step is made of.

use std::io::{self, BufWriter, Write};

use oci::{ChainId, DiffId, Digest, Hasher};
use serde_json::{Value, json};

use runtime::Limits;

use crate::vertex::{Archives, DestinationForm, Files, Item, Link, RunStep, Workdir};
use crate::{Network, Sandbox};

/// Changes with the meaning of any ingredient, and with what a step makes of them.
const FORMAT: u32 = 1;

/// How much is hashed at a time.
const BUFFER_SIZE: usize = 32 << 10;

/// Hashes what is written.
struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The ingredients of a key, and the key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) ingredients: Value,
    pub(super) digest: Digest,
}

impl Key {
    fn of(ingredients: Value) -> Self {
        // Of a large context they are megabytes, which are not kept twice.
        let mut hashing = BufWriter::with_capacity(BUFFER_SIZE, Hashing(Hasher::new()));
        serde_json::to_writer(&mut hashing, &ingredients)
            .expect("invariant: all keys are strings, and hashing does not fail");
        let hashing = hashing.into_inner().ok();
        let hasher = hashing.expect("invariant: hashing does not fail").0;
        Self {
            digest: hasher.finish(),
            ingredients,
        }
    }

    /// The key of a `RUN` on top of `parent`, with what counts of its mounts.
    pub(super) fn run(
        step: &RunStep,
        parent: &[DiffId],
        (sandbox, epoch): (&Sandbox, Option<i64>),
        mounts: Vec<Value>,
    ) -> Self {
        let script = step.script.as_ref();
        let network = step.network.unwrap_or(sandbox.network);
        let mut ingredients = json!({
            "format": FORMAT,
            "step": "run",
            "parent": chain(parent),
            "args": step.args,
            "env": step.env,
            "user": step.user,
            "cwd": step.cwd,
            "network": match network { Network::Host => "host", Network::None => "none" },
            "script": script.map(|script| json!([script.name, script.content])),
            "epoch": epoch,
        });
        if !mounts.is_empty() {
            ingredients["mounts"] = Value::Array(mounts);
        }
        if !sandbox.hosts.is_empty() {
            ingredients["hosts"] = json!(sandbox.hosts);
        }
        if sandbox.limits != Limits::default() {
            let ulimits = sandbox.limits.ulimits.iter().map(ToString::to_string);
            let ulimits: Vec<String> = ulimits.collect();
            ingredients["limits"] = json!([sandbox.limits.shm_size, ulimits]);
        }
        Self::of(ingredients)
    }

    /// The key of a `WORKDIR` on top of `parent`.
    pub(super) fn workdir(step: &Workdir, parent: &[DiffId], epoch: Option<i64>) -> Self {
        Self::of(json!({
            "format": FORMAT,
            "step": "workdir",
            "parent": chain(parent),
            "path": step.path,
            "user": step.user,
            "epoch": epoch,
        }))
    }

    /// The key of a `COPY` or `ADD` on top of `parent`, of files that `inputs` describe.
    pub(super) fn files(
        step: &Files,
        parent: &[DiffId],
        inputs: Vec<String>,
        epoch: Option<i64>,
    ) -> Self {
        let inputs = inputs.into_iter().map(Value::String).collect();
        Self::of(files(step, parent, "inputs", inputs, epoch))
    }

    /// The key of a `COPY --from` of layers whose files have not been read: it names them by the
    /// identity of their stack.
    pub(super) fn files_of_layers(
        step: &Files,
        parent: &[DiffId],
        source: &[DiffId],
        epoch: Option<i64>,
    ) -> Self {
        let item = |item: &Item| match item {
            Item::Path(path) => json!({ "path": path }),
            Item::Below { base, pattern } => json!({ "base": base, "below": pattern }),
            Item::Url(url) => json!({ "url": url }),
            Item::Git(source) => json!({ "git": source.to_string() }),
            Item::Inline { name, content } => json!({ "name": name, "content": content }),
        };
        let items: Vec<Value> = step.items.iter().map(item).collect();
        let from = json!({ "layers": chain(source), "items": items, "exclude": step.exclude });
        Self::of(files(step, parent, "from", from, epoch))
    }
}

fn files(step: &Files, parent: &[DiffId], name: &str, inputs: Value, epoch: Option<i64>) -> Value {
    let mut ingredients = json!({
        "format": FORMAT,
        "step": "files",
        "parent": match step.link { Link::Parent => chain(parent), Link::Apart => None },
        "link": step.link == Link::Apart,
        "destination": step.destination.path,
        "directory": step.destination.form == DestinationForm::Directory,
        "owner": step.owner,
        "mode": step.mode.as_ref().map(ToString::to_string),
        "unpack": match step.archives {
            Archives::Keep => "none",
            Archives::UnpackLocal => "local",
            Archives::UnpackAll => "all",
        },
        "epoch": epoch,
    });
    ingredients[name] = inputs;
    ingredients
}

fn chain(layers: &[DiffId]) -> Option<String> {
    ChainId::of(layers).map(|chain| chain.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunStep {
        RunStep {
            args: vec!["true".to_owned()],
            env: vec!["A=1".to_owned()],
            proxies: vec!["HTTP_PROXY=x".to_owned()],
            user: String::new(),
            cwd: "/".to_owned(),
            network: None,
            script: None,
            mounts: Vec::new(),
        }
    }

    fn sandbox(network: Network) -> Sandbox {
        Sandbox {
            network,
            hosts: Vec::new(),
            limits: Limits::default(),
        }
    }

    fn layer(text: &str) -> Vec<DiffId> {
        vec![DiffId(Digest::of(text.as_bytes()))]
    }

    #[test]
    fn every_ingredient_changes_the_key_and_proxies_do_not() {
        let key = |step: &RunStep| {
            Key::run(
                step,
                &layer("a"),
                (&sandbox(Network::Host), None),
                Vec::new(),
            )
            .digest
        };
        let base = key(&run());
        let text = |text: &str| vec![text.to_owned()];
        for other in [
            RunStep {
                args: text("false"),
                ..run()
            },
            RunStep {
                env: text("A=2"),
                ..run()
            },
            RunStep {
                user: "1".to_owned(),
                ..run()
            },
            RunStep {
                cwd: "/x".to_owned(),
                ..run()
            },
        ] {
            assert_ne!(key(&other), base, "{other:?}");
        }
        assert_eq!(
            key(&RunStep {
                proxies: Vec::new(),
                ..run()
            }),
            base
        );
        let other = Key::run(
            &run(),
            &layer("b"),
            (&sandbox(Network::Host), None),
            Vec::new(),
        )
        .digest;
        assert_ne!(other, base);
        assert_ne!(
            Key::run(
                &run(),
                &layer("a"),
                (&sandbox(Network::None), None),
                Vec::new()
            )
            .digest,
            base
        );
        assert_ne!(
            Key::run(
                &run(),
                &layer("a"),
                (&sandbox(Network::Host), Some(1)),
                Vec::new()
            )
            .digest,
            base
        );
    }

    #[test]
    fn a_key_is_the_digest_of_its_ingredients() {
        let key = Key::run(&run(), &[], (&sandbox(Network::Host), None), Vec::new());
        let bytes = serde_json::to_vec(&key.ingredients).expect("valid");
        assert_eq!(Digest::of(&bytes), key.digest);
        assert_eq!(key.ingredients["parent"], Value::Null);
    }
}
