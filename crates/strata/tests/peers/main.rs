//! Strata beside the programs that people use: docker-registry, skopeo, podman and buildah.
//!
//! All traffic is on loopback, and every program has its storage in the test's directory.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod base;
mod made;
mod place;
mod registry;
mod strata;

mod archives;
mod builds;
mod copies;
mod crowd;
mod logins;
mod pairs;
mod pulls;
mod pushes;
mod serve;
