//! The flags of `run` and `create`, and what they mean.

use std::fs;
use std::path::{Path, PathBuf};

use strata::container::variables::{from_file, from_flag, label};
use strata::container::{Bind, NetworkMode, check_distinct, name as container_name};
use strata::ops::create::CreateOptions;

use super::environment::variable;
use super::error::{CommandError, os_text};
use super::flags::{Arguments, Flag};
use super::name;
use super::session::Session;

/// What `run` and `create` have in common.
pub(crate) const COMMON: [Flag; 23] = [
    Flag::one("cidfile", "string", "Write the container ID to the file"),
    Flag::switched_on("disable-content-trust", "Skip image verification"),
    Flag::one(
        "entrypoint",
        "string",
        "Overwrite the default ENTRYPOINT of the image",
    ),
    Flag::many("env", "list", "Set environment variables").short('e'),
    Flag::many(
        "env-file",
        "list",
        "Read in a file of environment variables",
    ),
    Flag::switch("help", "Print usage"),
    Flag::one("hostname", "string", "Container host name").short('h'),
    Flag::switch("interactive", "Keep STDIN open even if not attached").short('i'),
    Flag::many("label", "list", "Set meta data on a container").short('l'),
    Flag::many(
        "label-file",
        "list",
        "Read in a line delimited file of labels",
    ),
    Flag::one("name", "string", "Assign a name to the container"),
    Flag::one("net", "network", "The same as --network"),
    Flag::one(
        "network",
        "network",
        "Connect a container to a network: none or host (default host, until there is a bridge network)",
    ),
    Flag::one(
        "platform",
        "string",
        "Set platform if server is multi-platform capable",
    ),
    Flag::one(
        "pull",
        "string",
        "Pull image before running (\"always\", \"missing\", \"never\") (default \"missing\")",
    ),
    Flag::switch("quiet", "Suppress the pull output").short('q'),
    Flag::switch(
        "read-only",
        "Mount the container's root filesystem as read only",
    ),
    Flag::switch("rm", "Automatically remove the container when it exits"),
    Flag::one("stop-signal", "string", "Signal to stop the container"),
    Flag::switch("tty", "Allocate a pseudo-TTY").short('t'),
    Flag::one(
        "user",
        "string",
        "Username or UID (format: <name|uid>[:<group|gid>])",
    )
    .short('u'),
    Flag::many(
        "volume",
        "list",
        "Bind mount a directory of the host: /host:/container[:ro]",
    )
    .short('v'),
    Flag::one(
        "workdir",
        "string",
        "Working directory inside the container",
    )
    .short('w'),
];

/// Flags of docker that neither takes yet: each needs something that strata does not have, and a
/// container without it would not be what was asked for.
pub(crate) const REFUSED: &[&str] = &[
    "add-host",
    "annotation",
    "attach",
    "blkio-weight",
    "blkio-weight-device",
    "cap-add",
    "cap-drop",
    "cgroup-parent",
    "cgroupns",
    "cpu-count",
    "cpu-percent",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "detach-keys",
    "device",
    "device-cgroup-rule",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "dns",
    "dns-option",
    "dns-search",
    "domainname",
    "expose",
    "gpus",
    "group-add",
    "health-cmd",
    "health-interval",
    "health-retries",
    "health-start-interval",
    "health-start-period",
    "health-timeout",
    "init",
    "io-maxbandwidth",
    "io-maxiops",
    "ip",
    "ip6",
    "ipc",
    "isolation",
    "kernel-memory",
    "link",
    "link-local-ip",
    "log-driver",
    "log-opt",
    "mac-address",
    "memory",
    "memory-reservation",
    "memory-swap",
    "memory-swappiness",
    "mount",
    "net-alias",
    "network-alias",
    "no-healthcheck",
    "oom-kill-disable",
    "oom-score-adj",
    "pid",
    "pids-limit",
    "privileged",
    "publish",
    "publish-all",
    "restart",
    "runtime",
    "security-opt",
    "shm-size",
    "stop-timeout",
    "storage-opt",
    "sysctl",
    "tmpfs",
    "ulimit",
    "use-api-socket",
    "userns",
    "uts",
    "volume-driver",
    "volumes-from",
];

/// When the registry is asked for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    Missing,
    Never,
}

/// Reads `--pull`.
pub(crate) fn pull_policy(arguments: &Arguments) -> Result<PullPolicy, CommandError> {
    match arguments.text("pull") {
        None | Some("missing" | "") => Ok(PullPolicy::Missing),
        Some("always") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => Err(CommandError::client(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

/// Reads everything that makes up the container.
pub(crate) fn create_options(
    arguments: &Arguments,
    session: &Session,
) -> Result<CreateOptions, CommandError> {
    let text = |name: &str| arguments.text(name).map(str::to_owned);
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut labels = std::collections::BTreeMap::new();
    for path in arguments.all("label-file") {
        labels.extend(read_variables(path)?.iter().map(|line| label(line)));
    }
    labels.extend(arguments.all("label").map(label));
    let binds = arguments
        .all("volume")
        .map(|spec| Bind::parse(spec, &directory))
        .collect::<Result<Vec<_>, _>>()?;
    check_distinct(&binds)?;
    Ok(CreateOptions {
        name: arguments
            .text("name")
            .filter(|name| !name.is_empty())
            .map(container_name::parse)
            .transpose()?,
        command: arguments.positional.get(1..).unwrap_or_default().to_vec(),
        entrypoint: text("entrypoint"),
        env: env(arguments)?,
        labels,
        working_dir: text("workdir").filter(|path| !path.is_empty()),
        user: text("user").filter(|user| !user.is_empty()),
        hostname: text("hostname").filter(|name| !name.is_empty()),
        binds,
        network: network(arguments)?,
        stop_signal: text("stop-signal"),
        read_only: arguments.is_on("read-only"),
        tty: arguments.is_on("tty"),
        stdin: arguments.is_on("interactive"),
        auto_remove: arguments.is_on("rm"),
        platform: name::platform(arguments.text("platform"), session)?,
    })
}

fn env(arguments: &Arguments) -> Result<Vec<String>, CommandError> {
    let mut env = Vec::new();
    for path in arguments.all("env-file") {
        env.extend(read_variables(path)?);
    }
    for text in arguments.all("env") {
        env.extend(
            from_flag(text, &variable)
                .map_err(|error| arguments.invalid("env", text, &error.to_string()))?,
        );
    }
    Ok(env)
}

fn read_variables(path: &str) -> Result<Vec<String>, CommandError> {
    let content = fs::read(Path::new(path))
        .map_err(|error| CommandError::client(format!("open {path}: {}", os_text(&error))))?;
    from_file(&content, &variable)
        .map_err(|error| CommandError::client(format!("poorly formatted environment: {error}")))
}

fn network(arguments: &Arguments) -> Result<Option<NetworkMode>, CommandError> {
    let given = arguments.text("network").or(arguments.text("net"));
    match given {
        None | Some("") => Ok(None),
        Some("none") => Ok(Some(NetworkMode::None)),
        Some("host") => Ok(Some(NetworkMode::Host)),
        Some(other) => Err(CommandError::client(format!(
            "network `{other}` is not supported yet: use none or host"
        ))),
    }
}
