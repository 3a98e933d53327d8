//! Places that images are in, outside the store.

use std::fmt;
use std::path::{Path, PathBuf};

use oci::{Digest, Reference, ReferenceError};
use store::Pick;

/// A place that an image can be in. `Display` is what names it in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a registry: `NAME` or `docker://NAME`.
    Registry(Reference),
    /// In a file or directory: `FORM:PATH`, `FORM:PATH:NAME` or `FORM:PATH@DIGEST`.
    Local {
        /// What the file or directory is.
        form: Form,
        /// Where it is.
        path: PathBuf,
        /// Which of its images is meant.
        pick: Pick,
    },
}

/// What a file or directory with images is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `oci:`, a directory.
    Layout,
    /// `oci-archive:`, a tar of such a directory.
    LayoutArchive,
    /// `docker-archive:`, what `save` writes.
    DockerArchive,
}

/// Why a text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A name at a registry that is none.
    #[error(transparent)]
    Reference(ReferenceError),
    /// A beginning that other programs know.
    #[error(
        "`{0}` is not supported: write NAME, docker://NAME, oci:DIRECTORY[:NAME], docker-archive:FILE[:NAME] or oci-archive:FILE[:NAME]"
    )]
    Unsupported(String),
    /// Nothing where a path has to be.
    #[error("`{0}` names no {1}")]
    NoPath(String, &'static str),
    /// Standard input or output.
    #[error("`{0}`: archives are read and written in place, so name a file instead of `-`")]
    Stream(String),
    /// Nothing where a name has to be.
    #[error("`{0}` ends with an empty name")]
    NoName(String),
    /// A digest that is none.
    #[error("`{0}` has no digest after `@`: expected `sha256:` and 64 hex digits")]
    Digest(String),
    /// A target that has a digest already.
    #[error("cannot copy to `{0}`: the digest of an image follows from its content")]
    DigestTarget(String),
    /// A name that OCI layouts do not have.
    #[error(
        "cannot copy to `{0}`: names in an OCI layout are letters and digits, joined by one of `-._:@+/` or by `--`"
    )]
    LayoutName(String),
    /// A name that images in docker's archives do not have.
    #[error("cannot copy to `{0}`")]
    ImageName(String, #[source] ReferenceError),
}

/// Beginnings that other programs know, but not this one.
const UNSUPPORTED: [&str; 8] = [
    "dir:",
    "containers-storage:",
    "docker-daemon:",
    "ostree:",
    "sif:",
    "tarball:",
    "atomic:",
    "oci-layout:",
];

impl Form {
    const ALL: [Self; 3] = [Self::Layout, Self::LayoutArchive, Self::DockerArchive];

    fn beginning(self) -> &'static str {
        match self {
            Self::Layout => "oci:",
            Self::LayoutArchive => "oci-archive:",
            Self::DockerArchive => "docker-archive:",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Layout => "directory",
            Self::LayoutArchive | Self::DockerArchive => "file",
        }
    }
}

impl Place {
    /// Reads a place. What has no known beginning is a name at a registry.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        for form in Form::ALL {
            if let Some(rest) = text.strip_prefix(form.beginning()) {
                return Self::local(text, form, rest);
            }
        }
        if let Some(beginning) = UNSUPPORTED.iter().find(|known| text.starts_with(**known)) {
            return Err(PlaceError::Unsupported((*beginning).to_owned()));
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((scheme, _)) = name.split_once("://") {
            return Err(PlaceError::Unsupported(format!("{scheme}://")));
        }
        let name = Reference::parse(name).map_err(PlaceError::Reference)?;
        Ok(Self::Registry(name.or_latest()))
    }

    fn local(text: &str, form: Form, rest: &str) -> Result<Self, PlaceError> {
        let whole = || text.to_owned();
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (path, Some(name)),
            None => (rest, None),
        };
        let (path, pick) = match (path.strip_suffix("@sha256"), name) {
            (Some(path), hex) => {
                let digest = hex.and_then(Digest::from_hex);
                let digest = digest.ok_or_else(|| PlaceError::Digest(whole()))?;
                (path, Pick::Digest(digest))
            }
            (None, Some("")) => return Err(PlaceError::NoName(whole())),
            (None, Some(name)) => (path, Pick::Name(name.to_owned())),
            (None, None) => (path, Pick::Only),
        };
        match path {
            "" => Err(PlaceError::NoPath(whole(), form.noun())),
            "-" if form != Form::Layout => Err(PlaceError::Stream(whole())),
            path => Ok(Self::Local {
                form,
                path: path.into(),
                pick,
            }),
        }
    }

    /// Returns the place to write to, if that is one.
    pub(super) fn target(&self) -> Result<Target<'_>, PlaceError> {
        let (form, path, pick) = match self {
            Self::Registry(name) if name.digest().is_some() => {
                return Err(PlaceError::DigestTarget(name.familiar()));
            }
            Self::Registry(name) => return Ok(Target::Registry(name)),
            Self::Local { form, path, pick } => (*form, path, pick),
        };
        let name = match pick {
            Pick::Only => None,
            Pick::Name(name) if !has_digest(name) => Some(name.as_str()),
            Pick::Name(_) | Pick::Digest(_) => {
                return Err(PlaceError::DigestTarget(self.to_string()));
            }
        };
        if form == Form::DockerArchive {
            let name = name.map(Reference::parse).transpose();
            let name = name.map_err(|error| PlaceError::ImageName(self.to_string(), error))?;
            return Ok(Target::DockerArchive(path, name.map(Reference::or_latest)));
        }
        if name.is_some_and(|name| !is_layout_name(name)) {
            return Err(PlaceError::LayoutName(self.to_string()));
        }
        Ok(match form {
            Form::Layout => Target::Layout(path, name),
            Form::LayoutArchive | Form::DockerArchive => Target::LayoutArchive(path, name),
        })
    }
}

/// A place that is written to.
pub(super) enum Target<'a> {
    Registry(&'a Reference),
    Layout(&'a Path, Option<&'a str>),
    LayoutArchive(&'a Path, Option<&'a str>),
    DockerArchive(&'a Path, Option<Reference>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, path, pick) = match self {
            Self::Registry(name) => return name.fmt(f),
            Self::Local { form, path, pick } => (form, path, pick),
        };
        write!(f, "{}{}", form.beginning(), path.display())?;
        match pick {
            Pick::Only => Ok(()),
            Pick::Name(name) => write!(f, ":{name}"),
            Pick::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// Tells whether a name ends with the digest of what it names.
fn has_digest(name: &str) -> bool {
    let digest = name.rsplit_once('@').map(|(_, digest)| digest);
    digest.is_some_and(|digest| digest.parse::<Digest>().is_ok())
}

/// Tells whether `name` is of the grammar of `org.opencontainers.image.ref.name`.
/// [OCI image-spec, annotations.md](https://github.com/opencontainers/image-spec/blob/main/annotations.md#pre-defined-annotation-keys)
fn is_layout_name(name: &str) -> bool {
    let is_component = |component: &str| {
        let joined = component.replace("--", "-");
        let mut parts = joined.split(['-', '.', '_', ':', '@', '+']);
        parts.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    name.split('/').all(is_component)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn local(form: Form, path: &str, pick: Pick) -> Place {
        Place::Local {
            form,
            path: path.into(),
            pick,
        }
    }

    #[test]
    fn places_are_told_by_their_beginning() {
        let name = |text: &str| Pick::Name(text.to_owned());
        let reference = |text| Place::Registry(Reference::parse(text).unwrap().or_latest());
        let digest = || Pick::Digest(Digest::from_hex(HEX).unwrap());
        let by_digest = format!("oci:/a/b@sha256:{HEX}");
        let cases = [
            ("oci:dir", local(Form::Layout, "dir", Pick::Only)),
            ("oci:/a/b:v1", local(Form::Layout, "/a/b", name("v1"))),
            (&by_digest, local(Form::Layout, "/a/b", digest())),
            ("oci:a@b", local(Form::Layout, "a@b", Pick::Only)),
            (
                "docker-archive:f:h:1/a:v1",
                local(Form::DockerArchive, "f", name("h:1/a:v1")),
            ),
            ("oci-archive:f", local(Form::LayoutArchive, "f", Pick::Only)),
            ("docker://q.io/a:1", reference("q.io/a:1")),
            ("localhost:5000/a", reference("localhost:5000/a")),
            ("ocia:1", reference("ocia:1")),
            ("docker:27", reference("docker:27")),
            ("dir", reference("dir")),
        ];
        for (text, place) in cases {
            assert_eq!(Place::parse(text).unwrap(), place, "{text}");
        }
        assert_eq!(Place::parse(&by_digest).unwrap().to_string(), by_digest);
    }

    #[test]
    fn what_is_no_place_is_told_and_no_name_at_docker_hub() {
        for (text, said) in [
            ("docker://A B", "invalid reference format"),
            ("dir:/tmp/x", "`dir:` is not supported: write NAME"),
            ("containers-storage:x", "`containers-storage:` is not"),
            ("docker-daemon:x:1", "`docker-daemon:` is not"),
            ("ostree:x", "`ostree:` is not"),
            ("sif:x", "`sif:` is not"),
            ("tarball:x", "`tarball:` is not"),
            ("http://q.io/a", "`http://` is not"),
            ("https://q.io/a", "`https://` is not"),
            ("docker://https://q.io/a", "`https://` is not"),
            ("oci:", "`oci:` names no directory"),
            ("oci::v1", "`oci::v1` names no directory"),
            ("oci-archive:", "`oci-archive:` names no file"),
            ("docker-archive::a:1", "names no file"),
            ("docker-archive:-", "instead of `-`"),
            ("oci:a:", "ends with an empty name"),
            ("oci:a@sha256:12", "`oci:a@sha256:12` has no digest"),
            ("oci:a@sha256", "has no digest"),
        ] {
            let error = Place::parse(text).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_target_has_a_name_that_its_form_has() {
        for text in [
            "oci:a",
            "oci:a:v1",
            "oci:a:q.io:5000/a/b:1.2_3+x--y",
            "oci-archive:a:V",
            "docker-archive:a:q.io:5000/a/b:1",
            "docker-archive:a:a",
            "q.io/a",
        ] {
            assert!(Place::parse(text).unwrap().target().is_ok(), "{text}");
        }
        let by_digest = [
            format!("oci:a@sha256:{HEX}"),
            format!("oci-archive:a:v1@sha256:{HEX}"),
            format!("docker-archive:a:v@sha256:{HEX}"),
            format!("q.io/a@sha256:{HEX}"),
        ];
        let cases = by_digest.iter().map(|text| (text.as_str(), "follows from"));
        let others = [
            ("oci:a:v 1", "letters and digits"),
            ("oci:a:-v", "letters and digits"),
            ("oci-archive:a:v---1", "letters and digits"),
            ("oci:a:a//b", "letters and digits"),
            ("oci:a:é", "letters and digits"),
            (
                "docker-archive:a:A:1",
                "cannot copy to `docker-archive:a:A:1`",
            ),
        ];
        for (text, said) in cases.chain(others) {
            let place = Place::parse(text).unwrap();
            let error = place.target().map(drop).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
