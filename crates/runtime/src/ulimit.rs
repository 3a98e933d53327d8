//! Limits of a container's processes, as `--ulimit` writes them.

use std::fmt;
use std::str::FromStr;

use rustix::process::{Resource, Rlimit, setrlimit};

/// One limit, inherited by all processes of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    resource: Resource,
    soft: Option<u64>,
    hard: Option<u64>,
}

/// Why a text is no limit. `Display` is docker's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UlimitError {
    /// It is not `name=soft[:hard]`.
    #[error("invalid ulimit argument: {0}")]
    Argument(String),
    /// There is no such limit.
    #[error("invalid ulimit type: {0}")]
    Name(String),
    /// There are more than two values.
    #[error("too many limit value arguments - {0}, can only have up to two, `soft[:hard]`")]
    TooMany(String),
    /// A value is no number.
    #[error("invalid ulimit value: {0:?} is neither a number nor -1")]
    Value(String),
    /// The soft limit is above the hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    SoftAboveHard {
        /// The soft limit, as written.
        soft: String,
        /// The hard limit, as written.
        hard: String,
    },
}

const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

impl FromStr for Ulimit {
    type Err = UlimitError;

    /// Reads `name=soft[:hard]`; without a hard limit it is the soft one, and -1 is none.
    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let (name, values) = text
            .split_once('=')
            .ok_or_else(|| UlimitError::Argument(text.to_owned()))?;
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let (_, resource) = known.ok_or_else(|| UlimitError::Name(name.to_owned()))?;
        let (soft, hard) = match values.split(':').collect::<Vec<_>>()[..] {
            [both] => (both, both),
            [soft, hard] => (soft, hard),
            _ => return Err(UlimitError::TooMany(values.to_owned())),
        };
        let value = |text: &str| match text {
            "-1" => Ok(None),
            text => match text.parse::<u64>() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(UlimitError::Value(text.to_owned())),
            },
        };
        let limit = Self {
            resource: *resource,
            soft: value(soft)?,
            hard: value(hard)?,
        };
        let is_above = match (limit.soft, limit.hard) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(soft), Some(hard)) => soft > hard,
        };
        if is_above {
            return Err(UlimitError::SoftAboveHard {
                soft: soft.to_owned(),
                hard: hard.to_owned(),
            });
        }
        Ok(limit)
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, known)| *known == self.resource);
        let text = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
        let (soft, hard) = (text(self.soft), text(self.hard));
        write!(f, "{}={soft}:{hard}", name.map_or("", |(name, _)| name))
    }
}

impl Ulimit {
    /// Sets the limit for this process and those that it starts.
    pub(crate) fn set(self) -> rustix::io::Result<()> {
        let limit = Rlimit {
            current: self.soft,
            maximum: self.hard,
        };
        setrlimit(self.resource, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        let limit = |text: &str| text.parse::<Ulimit>().map(|it| (it.soft, it.hard));
        assert_eq!(limit("nofile=5"), Ok((Some(5), Some(5))));
        assert_eq!(limit("nofile=5:6"), Ok((Some(5), Some(6))));
        assert_eq!(limit("core=0:-1"), Ok((Some(0), None)));
        assert_eq!(limit("core=-1"), Ok((None, None)));
        for (text, said) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("files=1", "invalid ulimit type: files"),
            (
                "nofile=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
            (
                "nofile=many",
                "invalid ulimit value: \"many\" is neither a number nor -1",
            ),
            (
                "nofile=2:1",
                "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
            ),
            (
                "nofile=-1:1",
                "ulimit soft limit must be less than or equal to hard limit: -1 > 1",
            ),
        ] {
            let error = text.parse::<Ulimit>().expect_err(text);
            assert_eq!(error.to_string(), said);
        }
    }
}
