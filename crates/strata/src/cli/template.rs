//! Go templates: `--format '{{.Repository}}'`.

use std::fmt::Write as _;

use gotmpl::{MissingKey, Template, TemplateError, Value};

/// Why a template has no result. `Display` is docker's own text.
#[derive(Debug, thiserror::Error)]
#[error("template parsing error: {0}")]
pub(crate) struct FormatError(String);

/// What a field that the data lacks is called in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// An object: `map has no entry for key "Nope"`.
    Object,
    /// A row of a list, of the named Go type.
    Row(&'static str),
}

/// Whether the template is run for its header, where functions leave names as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Data,
    Header,
}

/// A template that can be run on many values.
pub(crate) struct Format {
    source: String,
    template: Template,
    subject: Subject,
}

impl Format {
    pub(crate) fn parse(
        source: &str,
        purpose: Purpose,
        subject: Subject,
    ) -> Result<Self, FormatError> {
        let mut template = Template::new("").missing_key(MissingKey::Error);
        for (name, function) in FUNCTIONS {
            let function = match (purpose, *name) {
                (Purpose::Data, _) | (_, "split" | "join") => *function,
                (Purpose::Header, "pad" | "truncate") => |values: &[Value]| argument(values, 0),
                (Purpose::Header, _) => |values: &[Value]| argument(values, 0),
            };
            template = template.func(name, function);
        }
        let template = template
            .parse(source)
            .map_err(|error| FormatError(parse_error(&error)))?;
        Ok(Self {
            source: source.to_owned(),
            template,
            subject,
        })
    }

    pub(crate) fn execute(&self, value: &Value) -> Result<String, FormatError> {
        self.template
            .execute_to_string(value)
            .map_err(|error| FormatError(self.execution_error(&error)))
    }

    /// Go names the place and the expression; the library only the key.
    fn execution_error(&self, error: &TemplateError) -> String {
        let TemplateError::MissingKey { key } = error else {
            return format!("template: :1: executing \"\": {error}");
        };
        let (line, column, expression) = locate(&self.source, key);
        let place = format!("template: :{line}:{column}: executing \"\" at <{expression}>");
        match self.subject {
            Subject::Object => format!("{place}: map has no entry for key {key:?}"),
            Subject::Row(kind) => format!("{place}: can't evaluate field {key} in type {kind}"),
        }
    }
}

fn parse_error(error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: :{line}: {message}")
        }
        other => other.to_string(),
    }
}

/// Returns the line, the column (from 0, as Go counts) and the text of the expression that ends
/// in `.key`.
fn locate(source: &str, key: &str) -> (usize, usize, String) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let needle = format!(".{key}");
    let found = source
        .match_indices(&needle)
        .find(|(at, _)| !source[at + needle.len()..].starts_with(is_word));
    let Some((at, _)) = found else {
        return (1, 0, needle);
    };
    let before = &source[..at];
    let start = before
        .rfind(|c: char| !is_word(c) && c != '.' && c != '$')
        .map_or(0, |index| {
            index + before[index..].chars().next().map_or(0, char::len_utf8)
        });
    let line_start = source[..start].rfind('\n').map_or(0, |index| index + 1);
    let line = source[..start].matches('\n').count() + 1;
    let expression = source[start..at + needle.len()].to_owned();
    (line, start - line_start, expression)
}

type Function = fn(&[Value]) -> Result<Value, TemplateError>;

const FUNCTIONS: &[(&str, Function)] = &[
    ("json", |values| Ok(text(&json(&argument(values, 0)?)))),
    ("split", |values| {
        let (subject, separator) = (string(values, 0)?, string(values, 1)?);
        let parts: Vec<Value> = match separator.is_empty() {
            true => subject.chars().map(|c| text(&c.to_string())).collect(),
            false => subject.split(&separator).map(text).collect(),
        };
        Ok(Value::List(parts.into()))
    }),
    ("join", |values| {
        let Value::List(parts) = argument(values, 0)? else {
            return Err(TemplateError::TypeMismatch {
                expected: "list",
                got: argument(values, 0)?.type_name(),
            });
        };
        let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
        Ok(text(&parts.join(&string(values, 1)?)))
    }),
    ("title", |values| {
        let mut previous = ' ';
        let title: String = string(values, 0)?
            .chars()
            .map(|c| {
                let upper = previous.is_whitespace();
                previous = c;
                if upper { c.to_ascii_uppercase() } else { c }
            })
            .collect();
        Ok(text(&title))
    }),
    ("lower", |values| {
        Ok(text(&string(values, 0)?.to_lowercase()))
    }),
    ("upper", |values| {
        Ok(text(&string(values, 0)?.to_uppercase()))
    }),
    ("pad", |values| {
        let subject = string(values, 0)?;
        if subject.is_empty() {
            return Ok(text(""));
        }
        let (before, after) = (count(values, 1)?, count(values, 2)?);
        Ok(text(&format!(
            "{}{subject}{}",
            " ".repeat(before),
            " ".repeat(after)
        )))
    }),
    ("truncate", |values| {
        let subject = string(values, 0)?;
        let length = count(values, 1)?;
        Ok(text(&subject.chars().take(length).collect::<String>()))
    }),
];

/// The widest padding that is made: a template is input like any other.
const MAX_COUNT: usize = 4096;

fn argument(values: &[Value], index: usize) -> Result<Value, TemplateError> {
    values
        .get(index)
        .cloned()
        .ok_or_else(|| TemplateError::ArgCount {
            name: "function".to_owned(),
            expected: index + 1,
            got: values.len(),
        })
}

fn string(values: &[Value], index: usize) -> Result<String, TemplateError> {
    Ok(argument(values, index)?.to_string())
}

fn count(values: &[Value], index: usize) -> Result<usize, TemplateError> {
    let number = argument(values, index)?.as_int().unwrap_or(0);
    Ok(usize::try_from(number).unwrap_or(0).min(MAX_COUNT))
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

/// Returns `value` as JSON, with keys in the order in which docker's structures declare them.
fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value);
    out
}

fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(out, item);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            if entries.iter().all(|(key, _)| rank(key).is_some()) {
                entries.sort_by_key(|(key, _)| rank(key));
            }
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&quote(key));
                out.push(':');
                write_json(out, value);
            }
            out.push('}');
        }
        Value::String(string) => out.push_str(&quote(string)),
        Value::Nil | Value::Function(_) => out.push_str("null"),
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => {
            write!(out, "{value}").expect("writing to a String cannot fail");
        }
    }
}

/// Returns `string` in double quotes, with control characters escaped.
pub(crate) fn quote(string: &str) -> String {
    serde_json::to_string(string).expect("a string is always JSON")
}

fn rank(key: &str) -> Option<usize> {
    DECLARED.iter().position(|declared| *declared == key)
}

/// The fields of docker's `image.InspectResponse`, `container.InspectResponse` and what they
/// hold, in the order of their declarations. A template's values are sorted by name, Go's
/// structures are not; a map with other keys (labels, volumes) is sorted in Go too.
const DECLARED: &[&str] = &[
    "Id",
    "RepoTags",
    "RepoDigests",
    "Parent",
    "Comment",
    "Created",
    "DockerVersion",
    "Author",
    "Path",
    "Args",
    "State",
    "Status",
    "Running",
    "Paused",
    "Restarting",
    "OOMKilled",
    "Dead",
    "Pid",
    "ExitCode",
    "Error",
    "StartedAt",
    "FinishedAt",
    "Image",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "Name",
    "RestartCount",
    "Driver",
    "Platform",
    "HostConfig",
    "GraphDriver",
    "Data",
    "Mounts",
    "Config",
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "ExposedPorts",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "OnBuild",
    "Labels",
    "StopSignal",
    "StopTimeout",
    "Shell",
    "ArgsEscaped",
    "Healthcheck",
    "Test",
    "Interval",
    "Timeout",
    "StartPeriod",
    "StartInterval",
    "Retries",
    "Architecture",
    "Variant",
    "Os",
    "OsVersion",
    "Size",
    "RootFS",
    "Type",
    "Layers",
    "Metadata",
    "LastTagTime",
    "NetworkSettings",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, data: serde_json::Value) -> Result<String, String> {
        let value = gotmpl::to_value(&data).expect("representable");
        Format::parse(source, Purpose::Data, Subject::Object)
            .and_then(|format| format.execute(&value))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn dockers_functions_are_there() {
        let data = serde_json::json!({
            "Id": "sha256:abc", "Tags": ["a:1", "b:2"], "Config": {"Cmd": ["x"], "User": "u"},
            "Labels": {"z": "<1>", "a": "2"}, "Size": 12, "Nil": null,
        });
        for (source, expected) in [
            ("{{.Id}}", "sha256:abc"),
            ("{{.Tags}}", "[a:1 b:2]"),
            ("{{index .Tags 0}}", "a:1"),
            ("{{json .Config}}", r#"{"User":"u","Cmd":["x"]}"#),
            ("{{json .Labels}}", r#"{"a":"2","z":"<1>"}"#),
            ("{{json .Nil}} {{json .Size}}", "null 12"),
            ("{{join .Tags \", \"}}", "a:1, b:2"),
            ("{{index (split .Id \":\") 1}}", "abc"),
            ("{{upper .Id}} {{title \"ab cd\"}}", "SHA256:ABC Ab Cd"),
            ("{{truncate .Id 6}}|{{pad \"x\" 1 2}}|", "sha256| x  |"),
            ("{{range .Tags}}[{{.}}]{{end}}", "[a:1][b:2]"),
            ("{{if gt .Size 10}}big{{end}} {{len .Tags}}", "big 2"),
            ("{{println .Id}}", "sha256:abc\n"),
        ] {
            assert_eq!(
                render(source, data.clone()),
                Ok(expected.to_owned()),
                "{source}"
            );
        }
    }

    #[test]
    fn an_unknown_field_is_an_error_in_dockers_words() {
        for (source, expected) in [
            (
                "{{.Nope}}",
                "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
            ),
            (
                "x {{json .Config.Nope}}",
                "template parsing error: template: :1:9: executing \"\" at <.Config.Nope>: map has no entry for key \"Nope\"",
            ),
        ] {
            let data = serde_json::json!({"Config": {}});
            assert_eq!(render(source, data), Err(expected.to_owned()), "{source}");
        }
    }

    #[test]
    fn a_malformed_template_is_an_error() {
        let error = render("{{.Id", serde_json::json!({})).expect_err("malformed");
        assert!(
            error.starts_with("template parsing error: template: :1: unclosed action"),
            "{error}"
        );
    }
}
