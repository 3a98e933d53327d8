//! `RUN --mount`: what is left out is filled in as BuildKit does.

use dockerfile::MountKind as Written;

use super::{LowerError, metadata};
use crate::vertex::{Cache, FilesFrom, Mount, MountKind};

/// Where secrets are shown that have no target.
const SECRETS: &str = "/run/secrets";
/// Where the sockets of agents are shown that have no target; their number follows.
const AGENTS: &str = "/run/buildkit/ssh_agent.";

/// Completes the mount that was written. `from` is what it names, of a cache a stage or an image; `agents` counts the
/// agents' sockets that its step has already.
pub(super) fn lower(
    written: dockerfile::Mount,
    from: Option<FilesFrom>,
    working_directory: &str,
    agents: usize,
) -> Result<Mount, LowerError> {
    let absolute = |path: &str| metadata::working_directory(working_directory, path);
    let given = Some(written.target.as_str()).filter(|target| !target.is_empty());
    let (target, kind) = match written.kind {
        Written::Bind { source, .. } => {
            let from = from.unwrap_or(FilesFrom::Context(None));
            let source = metadata::clean(&source);
            (
                Some(absolute(&written.target)),
                MountKind::Bind { from, source },
            )
        }
        Written::Cache {
            id,
            source,
            sharing,
            owner,
            ..
        } => {
            let kind = MountKind::Cache(Cache {
                id: match id == written.target {
                    true => metadata::clean(&id),
                    false => id,
                },
                from: from.as_ref().and_then(FilesFrom::origin).cloned(),
                source: metadata::clean(&source),
                sharing,
                owner,
            });
            (Some(absolute(&written.target)), kind)
        }
        Written::Tmpfs { size } => (Some(absolute(&written.target)), MountKind::Tmpfs { size }),
        Written::Secret {
            id,
            env,
            required,
            owner,
        } => {
            let last = id.rsplit('/').next().unwrap_or_default();
            let target = match (given, &env) {
                (Some(target), _) => Some(absolute(target)),
                (None, None) => Some(format!("{SECRETS}/{last}")),
                (None, Some(_)) => None,
            };
            let env = env.map(|name| match name.is_empty() {
                true => id.clone(),
                false => name,
            });
            let kind = MountKind::Secret {
                id,
                env,
                required,
                owner,
            };
            (target, kind)
        }
        Written::Ssh {
            id,
            required,
            owner,
        } => {
            let target = given.map_or_else(|| format!("{AGENTS}{agents}"), absolute);
            let kind = MountKind::Ssh {
                id,
                required,
                owner,
            };
            (Some(target), kind)
        }
    };
    if target.as_deref() == Some("/") {
        return Err(LowerError::MountTarget("/".to_owned()));
    }
    Ok(Mount {
        target,
        kind,
        read_only: written.read_only,
    })
}
