//! The variables that words of a Dockerfile are expanded with.

use std::collections::BTreeMap;

use dockerfile::expand::{self, ExpandError};
use oci::Platform;

/// Names with values, in the order in which they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Variables(Vec<(String, String)>);

impl Variables {
    /// Sets a name; its place stays when it was set before.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Sets what the environment of an image (`NAME=value`) says.
    pub(crate) fn inherit(&mut self, environment: &[String]) {
        for variable in environment {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.set(name, value);
        }
    }

    /// Returns the value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns all of them as `NAME=value`.
    pub(crate) fn assignments(&self) -> Vec<String> {
        let assignment = |(name, value): &(String, String)| format!("{name}={value}");
        self.0.iter().map(assignment).collect()
    }

    /// Returns them by name.
    pub(crate) fn to_map(&self) -> BTreeMap<String, String> {
        self.0.iter().cloned().collect()
    }

    /// Expands one word.
    pub(crate) fn expand(&self, word: &str, escape: char) -> Result<String, ExpandError> {
        expand::word(word, &|name| self.get(name).map(str::to_owned), escape)
    }
}

/// Returns docker's automatic arguments, seen by `FROM` and by stages that declare them.
pub(crate) fn automatic(target: &Platform, build: &Platform, stage: &str) -> Variables {
    let mut variables = Variables::default();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        for (suffix, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", text(&platform.os_version)),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", text(&platform.variant)),
        ] {
            variables.set(&format!("{prefix}{suffix}"), &value);
        }
    }
    variables.set("TARGETSTAGE", stage);
    variables
}

/// Returns the proxy settings among `--build-arg`: RUN sees them without `ARG`, and they are
/// neither in the history nor in the keys of the cache.
pub(crate) fn proxies(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    const NAMES: [&str; 5] = [
        "http_proxy",
        "https_proxy",
        "ftp_proxy",
        "no_proxy",
        "all_proxy",
    ];
    let mut found = Vec::new();
    for name in NAMES {
        let given = build_args
            .iter()
            .rfind(|(given, _)| given.eq_ignore_ascii_case(name));
        if let Some((_, value)) = given {
            found.push((name.to_ascii_uppercase(), value.clone()));
            found.push((name.to_owned(), value.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_arguments_name_both_platforms() {
        let target: Platform = "linux/arm/v7".parse().expect("valid");
        let build: Platform = "linux/amd64".parse().expect("valid");
        let variables = automatic(&target, &build, "app");
        for (name, value) in [
            ("TARGETPLATFORM", "linux/arm/v7"),
            ("TARGETOS", "linux"),
            ("TARGETARCH", "arm"),
            ("TARGETVARIANT", "v7"),
            ("BUILDPLATFORM", "linux/amd64"),
            ("BUILDVARIANT", ""),
            ("TARGETSTAGE", "app"),
        ] {
            assert_eq!(variables.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn proxies_are_seen_in_both_cases() {
        let args = BTreeMap::from([
            ("HTTP_PROXY".to_owned(), "a".to_owned()),
            ("X".to_owned(), "b".to_owned()),
        ]);
        let pair = |name: &str| (name.to_owned(), "a".to_owned());
        assert_eq!(proxies(&args), [pair("HTTP_PROXY"), pair("http_proxy")]);
    }
}
