//! `RUN --mount=`.

use crate::error::DidYouMean;
use crate::expand::{self, ExpandError, Variables};
use crate::suggest;

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: [&str; 3] = ["shared", "private", "locked"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// The text of a `--mount=` flag. Its values may hold variables, so that it becomes a [`Mount`]
/// only when these are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    text: String,
    from: Option<String>,
}

/// A mount that one `RUN` sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, as written; a relative path is relative to `WORKDIR`. It is empty when not given.
    pub target: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A path of the build context, a stage or an image. Writes are thrown away.
    Bind {
        /// The stage, image or named context; the build context when not given.
        from: Option<String>,
        /// The path in it; empty for its root.
        source: String,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name, the target when not given.
        id: String,
        /// The stage, image or named context to start from.
        from: Option<String>,
        /// The path in it; empty for its root.
        source: String,
        /// What concurrent builds do.
        sharing: CacheSharing,
        /// The mode and owner of a new directory.
        owner: Ownership,
    },
    /// Memory.
    Tmpfs {
        /// The most bytes it may hold; 0 is no limit.
        size: u64,
    },
    /// A secret of the build, as a file or a variable.
    Secret {
        /// Its name, the last component of the target when not given.
        id: String,
        /// The variable that holds it, `Some("")` for the one named as the secret. With a
        /// variable there is a file only when a target is given.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// The mode and owner of the file; the mode is 0400 when not given.
        owner: Ownership,
    },
    /// An ssh agent's socket.
    Ssh {
        /// Its name, `default` when not given.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// The mode and owner of the socket; the mode is 0600 when not given.
        owner: Ownership,
    },
}

/// The mode and owner of something that a mount makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ownership {
    /// `mode=`, written in octal.
    pub mode: Option<u32>,
    /// `uid=`.
    pub uid: Option<u32>,
    /// `gid=`.
    pub gid: Option<u32>,
}

/// What concurrent users of a cache mount do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// Use it together.
    #[default]
    Shared,
    /// Get another one.
    Private,
    /// Wait.
    Locked,
}

/// Why a `--mount=` is wrong. `Display` is BuildKit's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A value does not expand.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// The quotes of a field are wrong.
    #[error("failed to parse csv mounts: bare or unclosed quote in {0:?}")]
    Quotes(String),
    /// A field without `=` that needs one.
    #[error("invalid field '{0}' must be a key=value pair")]
    NotAPair(String),
    /// `from=` holds a variable.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// The key does not exist.
    #[error("unexpected key '{key}' in '{field}'{}", DidYouMean(.suggestion))]
    UnexpectedKey {
        /// The key.
        key: String,
        /// The whole field.
        field: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The key is not for this type.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherType {
        /// The key.
        key: &'static str,
        /// The type so far: `type=` must come before.
        kind: String,
    },
    /// The type does not exist.
    #[error("unsupported mount type {name:?}{}", DidYouMean(.suggestion))]
    UnsupportedType {
        /// What was written.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The sharing mode does not exist.
    #[error("unsupported sharing value {name:?}{}", DidYouMean(.suggestion))]
    UnsupportedSharing {
        /// What was written.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A value is no truth value or size.
    #[error("invalid value for {key}: {value}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A value is no number.
    #[error("invalid value {value} for {key}")]
    InvalidNumber {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Mode and owner are for things that the mount makes.
    #[error("{key} not allowed for {kind:?} type mounts")]
    OwnershipNotAllowed {
        /// The key.
        key: &'static str,
        /// The type.
        kind: String,
    },
    /// A secret is not from a stage.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret is not shared.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without a name.
    #[error("invalid secret mount. one of source, target required")]
    SecretWithoutName,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretWithTwoNames,
    /// `sharing=` is for caches.
    #[error("invalid cache sharing set for {0} mount")]
    SharingNotAllowed(String),
}

impl MountFlag {
    /// Reads the flag's value as far as it can be without knowing variables.
    pub(crate) fn parse(text: &str) -> Result<Self, MountError> {
        let mut from = None;
        for field in mount_fields(text)? {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                return Err(MountError::FromVariable);
            }
            from = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        Ok(Self {
            text: text.to_owned(),
            from,
        })
    }

    /// Returns the flag's value as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns `from=`, which never holds variables: what the mount depends on.
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// Returns the mount, its values expanded with `variable`.
    pub fn resolve(&self, variable: &Variables<'_>, escape: char) -> Result<Mount, MountError> {
        let mut draft = Draft::default();
        for field in mount_fields(&self.text)? {
            match field.split_once('=') {
                Some((key, value)) => {
                    let value = expand::word(value, variable, escape)?;
                    draft.set(&key.to_lowercase(), value, &field)?;
                }
                None => draft.set_switch(&field)?,
            }
        }
        draft.finish()
    }
}

/// A mount while its fields are read.
#[derive(Default)]
struct Draft {
    kind: Option<String>,
    from: Option<String>,
    source: String,
    target: String,
    read_only: Option<bool>,
    required: bool,
    size: u64,
    id: String,
    sharing: Option<CacheSharing>,
    owner: Ownership,
    env: Option<String>,
}

impl Draft {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("bind")
    }

    fn set_switch(&mut self, field: &str) -> Result<(), MountError> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.expect_kind("required", &["secret", "ssh"])?;
                self.required = true;
            }
            _ => return Err(MountError::NotAPair(field.to_owned())),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), MountError> {
        match key {
            "type" => {
                let kind = value.to_lowercase();
                if !TYPES.contains(&kind.as_str()) {
                    let suggestion = suggest::nearest(&value, &TYPES).map(str::to_owned);
                    return Err(MountError::UnsupportedType {
                        name: value,
                        suggestion,
                    });
                }
                self.kind = Some(kind);
            }
            "from" => self.from = Some(value).filter(|value| !value.is_empty()),
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => self.read_only = Some(mount_truth(key, &value)?),
            "readwrite" | "rw" => self.read_only = Some(!mount_truth(key, &value)?),
            "required" => {
                self.expect_kind("required", &["secret", "ssh"])?;
                self.required = mount_truth(key, &value)?;
            }
            "size" => {
                self.expect_kind("size", &["tmpfs"])?;
                self.size = parse_size(&value).ok_or_else(|| MountError::InvalidValue {
                    key: key.to_owned(),
                    value,
                })?;
            }
            "id" => self.id = value,
            "sharing" => self.sharing = Some(sharing(value)?),
            "mode" => self.owner.mode = Some(number("mode", value, 8)?),
            "uid" => self.owner.uid = Some(number("uid", value, 10)?),
            "gid" => self.owner.gid = Some(number("gid", value, 10)?),
            "env" => self.env = Some(value),
            _ => {
                return Err(MountError::UnexpectedKey {
                    key: key.to_owned(),
                    field: field.to_owned(),
                    suggestion: suggest::nearest(key, &KEYS).map(str::to_owned),
                });
            }
        }
        Ok(())
    }

    fn expect_kind(&self, key: &'static str, kinds: &[&str]) -> Result<(), MountError> {
        if kinds.contains(&self.kind()) {
            return Ok(());
        }
        Err(MountError::KeyOfOtherType {
            key,
            kind: self.kind().to_owned(),
        })
    }

    fn finish(self) -> Result<Mount, MountError> {
        let kind_name = self.kind().to_owned();
        let makes_something = matches!(kind_name.as_str(), "secret" | "ssh" | "cache");
        let Ownership { mode, uid, gid } = self.owner;
        for (key, value) in [("mode", mode), ("uid", uid), ("gid", gid)] {
            if value.is_some() && !makes_something {
                return Err(MountError::OwnershipNotAllowed {
                    key,
                    kind: kind_name,
                });
            }
        }
        if kind_name == "secret" {
            self.check_secret()?;
        }
        if self.sharing.is_some() && kind_name != "cache" {
            return Err(MountError::SharingNotAllowed(kind_name));
        }
        let writable_by_default = matches!(kind_name.as_str(), "cache" | "tmpfs");
        let read_only = self.read_only.unwrap_or(!writable_by_default);
        let kind = match kind_name.as_str() {
            "cache" => MountKind::Cache {
                id: first_of(self.id, &self.target),
                from: self.from,
                source: self.source,
                sharing: self.sharing.unwrap_or_default(),
                owner: self.owner,
            },
            "tmpfs" => MountKind::Tmpfs { size: self.size },
            "secret" => {
                let last = self.target.trim_end_matches('/').rsplit('/').next();
                let name = first_of(self.source, &self.id);
                MountKind::Secret {
                    id: first_of(name, last.unwrap_or_default()),
                    env: self.env,
                    required: self.required,
                    owner: self.owner,
                }
            }
            "ssh" => MountKind::Ssh {
                id: first_of(self.id, "default"),
                required: self.required,
                owner: self.owner,
            },
            _ => MountKind::Bind {
                from: self.from,
                source: self.source,
            },
        };
        Ok(Mount {
            kind,
            target: self.target,
            read_only,
        })
    }

    fn check_secret(&self) -> Result<(), MountError> {
        if self.from.is_some() {
            return Err(MountError::SecretFrom);
        }
        if self.sharing.is_some() {
            return Err(MountError::SecretSharing);
        }
        match (self.source.is_empty(), self.id.is_empty()) {
            (true, true) if self.target.is_empty() => Err(MountError::SecretWithoutName),
            (false, false) => Err(MountError::SecretWithTwoNames),
            _ => Ok(()),
        }
    }
}

fn first_of(text: String, otherwise: &str) -> String {
    if text.is_empty() {
        otherwise.to_owned()
    } else {
        text
    }
}

fn sharing(value: String) -> Result<CacheSharing, MountError> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(CacheSharing::Shared),
        "private" => Ok(CacheSharing::Private),
        "locked" => Ok(CacheSharing::Locked),
        _ => {
            let suggestion = suggest::nearest(&value, &SHARING).map(str::to_owned);
            Err(MountError::UnsupportedSharing {
                name: value,
                suggestion,
            })
        }
    }
}

fn mount_truth(key: &str, value: &str) -> Result<bool, MountError> {
    truth(value).ok_or_else(|| MountError::InvalidValue {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

/// Go's `strconv.ParseBool`.
pub(crate) fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn number(key: &'static str, value: String, radix: u32) -> Result<u32, MountError> {
    let digits = !value.starts_with('+');
    match u32::from_str_radix(&value, radix) {
        Ok(number) if digits => Ok(number),
        _ => Err(MountError::InvalidNumber { key, value }),
    }
}

/// Reads bytes as docker writes them: `64m`, `1.5g`, `10 KiB`; all units are powers of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let mut letters = unit.chars();
    let shift = match letters.next() {
        None | Some('b') => 0,
        Some('k') => 10,
        Some('m') => 20,
        Some('g') => 30,
        Some('t') => 40,
        Some('p') => 50,
        Some(_) => return None,
    };
    if !matches!((shift, letters.as_str()), (_, "") | (1.., "b" | "ib")) {
        return None;
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = 1_u128 << shift;
    let mut bytes = whole.parse::<u64>().ok().map(u128::from)? * scale;
    let mut place = scale;
    for digit in fraction.chars() {
        bytes += u128::from(digit.to_digit(10)?) * place / 10;
        place /= 10;
    }
    u64::try_from(bytes).ok()
}

fn mount_fields(text: &str) -> Result<Vec<String>, MountError> {
    fields(text).ok_or_else(|| MountError::Quotes(text.to_owned()))
}

/// Splits one line of comma-separated values: a field may be quoted, and doubled quotes in it are
/// one. `None` when its quotes do not match.
pub fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, after) = match rest.split_once(',') {
                Some((field, after)) => (field, Some(after)),
                None => (rest, None),
            };
            if field.contains('"') {
                return None;
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Some(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let (part, after) = quoted.split_once('"')?;
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    quoted = after;
                }
                None => {
                    quoted = after;
                    break;
                }
            }
        }
        fields.push(field);
        match quoted.strip_prefix(',') {
            Some(after) => rest = after,
            None if quoted.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_as_in_csv() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let found = fields(text);
            let found: Option<Vec<&str>> = found
                .as_ref()
                .map(|it| it.iter().map(String::as_str).collect());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("a", Some(&["a"]));
        check("type=x,ref=y", Some(&["type=x", "ref=y"]));
        check("a,", Some(&["a", ""]));
        check("\"dest=a,b\",c", Some(&["dest=a,b", "c"]));
        check("\"a\"\"b\"", Some(&["a\"b"]));
        check("\"a", None);
        check("a\"b\"", None);
        check("\"a\"b", None);
    }

    fn resolve(text: &str) -> Result<Mount, String> {
        let variable = |name: &str| (name == "id").then(|| "npm".to_owned());
        MountFlag::parse(text)
            .and_then(|flag| flag.resolve(&variable, '\\'))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_type_has_its_options() {
        let mount = resolve("type=cache,id=$id,target=/c,sharing=locked,mode=0755,uid=1,gid=2,ro");
        assert_eq!(
            mount,
            Ok(Mount {
                kind: MountKind::Cache {
                    id: "npm".to_owned(),
                    from: None,
                    source: String::new(),
                    sharing: CacheSharing::Locked,
                    owner: Ownership {
                        mode: Some(0o755),
                        uid: Some(1),
                        gid: Some(2)
                    },
                },
                target: "/c".to_owned(),
                read_only: true,
            })
        );
        let mount = resolve("from=base,source=/a,\"target=/x,y\"").expect("valid");
        assert!(mount.read_only);
        assert_eq!(mount.target, "/x,y");
        assert_eq!(
            mount.kind,
            MountKind::Bind {
                from: Some("base".to_owned()),
                source: "/a".to_owned()
            }
        );
        let mount = resolve("type=tmpfs,size=1.5k,target=/t").expect("valid");
        assert_eq!(mount.kind, MountKind::Tmpfs { size: 1536 });
        assert!(!mount.read_only);
        let mount = resolve("type=secret,target=/a/key,required,env=KEY").expect("valid");
        let MountKind::Secret {
            id, env, required, ..
        } = mount.kind
        else {
            panic!("{mount:?}");
        };
        assert_eq!(
            (id.as_str(), env.as_deref(), required),
            ("key", Some("KEY"), true)
        );
        let mount = resolve("type=ssh").expect("valid");
        assert!(matches!(mount.kind, MountKind::Ssh { id, .. } if id == "default"));
    }

    #[test]
    fn what_is_wrong_is_said_in_buildkits_words() {
        for (text, expected) in [
            (
                "type=bnd",
                "unsupported mount type \"bnd\" (did you mean bind?)",
            ),
            (
                "type=cache,shring=x",
                "unexpected key 'shring' in 'shring=x' (did you mean sharing?)",
            ),
            (
                "type=cache,sharing=all",
                "unsupported sharing value \"all\"",
            ),
            (
                "from=$x",
                "'from' doesn't support variable expansion, define alias stage instead",
            ),
            ("size=1m", "unexpected key 'size' for mount type 'bind'"),
            (
                "required",
                "unexpected key 'required' for mount type 'bind'",
            ),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("type=tmpfs,size=1x", "invalid value for size: 1x"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("uid=1", "uid not allowed for \"bind\" type mounts"),
            (
                "type=secret",
                "invalid secret mount. one of source, target required",
            ),
            ("type=secret,id=a,src=b", "both source and id can't be set"),
            (
                "type=ssh,sharing=shared",
                "invalid cache sharing set for ssh mount",
            ),
            ("ro=maybe", "invalid value for ro: maybe"),
            (
                "a\"b",
                "failed to parse csv mounts: bare or unclosed quote in \"a\\\"b\"",
            ),
        ] {
            assert_eq!(resolve(text), Err(expected.to_owned()), "{text}");
        }
    }
}
