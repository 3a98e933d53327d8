//! The progress of a build for programs, as BuildKit's `--progress=rawjson` writes it: one JSON object
//! a line, with `vertexes`, `statuses`, `logs` or `warnings`.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::{Event, LogStream, StepId};
use oci::Digest;
use serde_json::{Map, Value, json};
use store::Timestamp;

/// Turns events into lines.
#[derive(Debug, Default)]
pub(crate) struct BuildRaw {
    steps: HashMap<StepId, Vertex>,
    last: Option<StepId>,
}

#[derive(Debug)]
struct Vertex {
    /// What tells it from others of the build.
    digest: String,
    name: String,
    started: Timestamp,
}

impl Vertex {
    fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("digest".to_owned(), json!(self.digest));
        object.insert("name".to_owned(), json!(self.name));
        object.insert("started".to_owned(), json!(self.started.to_string()));
        object
    }
}

impl BuildRaw {
    /// Returns the line that tells `event`, which came at `at`.
    pub(crate) fn line(&mut self, at: Timestamp, event: &Event) -> String {
        match self.object(at, event) {
            Some(object) => format!("{object}\n"),
            None => String::new(),
        }
    }

    fn object(&mut self, at: Timestamp, event: &Event) -> Option<Value> {
        match event {
            Event::Planned { .. } => None,
            Event::StepStarted { step, name } => {
                let vertex = Vertex {
                    digest: Digest::of(format!("{} {name}", step.0).as_bytes()).to_string(),
                    name: name.clone(),
                    started: at,
                };
                let object = vertex.object();
                self.steps.insert(*step, vertex);
                self.last = Some(*step);
                Some(json!({ "vertexes": [object] }))
            }
            Event::Status {
                step,
                text,
                elapsed,
            } => {
                let vertex = self.steps.get(step)?;
                let status = json!({
                    "id": text,
                    "vertex": vertex.digest,
                    "current": 0,
                    "timestamp": at.to_string(),
                    "started": before(at, *elapsed).to_string(),
                    "completed": at.to_string(),
                });
                Some(json!({ "statuses": [status] }))
            }
            Event::Log {
                step, stream, line, ..
            } => {
                let vertex = self.steps.get(step)?;
                let log = json!({
                    "vertex": vertex.digest,
                    "stream": match stream { LogStream::Stdout => 1, LogStream::Stderr => 2 },
                    "data": STANDARD.encode(format!("{line}\n")),
                    "timestamp": at.to_string(),
                });
                Some(json!({ "logs": [log] }))
            }
            Event::StepCached { step } => self.ended(at, *step, ("cached", json!(true))),
            Event::StepDone { step, .. } => self.ended(at, *step, ("", Value::Null)),
            Event::StepFailed { step, message, .. } => {
                self.ended(at, *step, ("error", json!(message)))
            }
            Event::Warning {
                rule,
                message,
                line,
                url,
            } => {
                let vertex = self.steps.get(&self.last?)?;
                let position = json!({ "start": { "line": line }, "end": { "line": line } });
                let warning = json!({
                    "vertex": vertex.digest,
                    "level": 1,
                    "short": STANDARD.encode(format!("{rule}: {message} (line {line})")),
                    "url": url,
                    "range": [position],
                });
                Some(json!({ "warnings": [warning] }))
            }
        }
    }

    fn ended(&self, at: Timestamp, step: StepId, (key, value): (&str, Value)) -> Option<Value> {
        let mut object = self.steps.get(&step)?.object();
        object.insert("completed".to_owned(), json!(at.to_string()));
        if !key.is_empty() {
            object.insert(key.to_owned(), value);
        }
        Some(json!({ "vertexes": [object] }))
    }
}

fn before(at: Timestamp, elapsed: Duration) -> Timestamp {
    let elapsed = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
    Timestamp(at.0.saturating_sub(elapsed))
}
