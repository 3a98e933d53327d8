//! Why a container did not start.

use std::io;
use std::path::PathBuf;

use sys::MountError;

use crate::user::UserError;

/// Why a container did not start. `Display` is docker's words where docker has some.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The user or group is not known in the container.
    #[error(transparent)]
    User(#[from] UserError),
    /// The container's id cannot name a control group.
    #[error("invalid container id `{0}`: expected letters, digits, `_`, `.` and `-`")]
    InvalidId(String),
    /// There is nothing to execute.
    #[error("no command specified")]
    NoCommand,
    /// An argument, variable or path has a NUL byte in it.
    #[error("`{0}` contains a NUL byte")]
    NulByte(String),
    /// The working directory is relative.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    RelativeCwd(String),
    /// The working directory is something else.
    #[error("Cannot mkdir: {0} is not a directory")]
    CwdNotDirectory(String),
    /// The working directory cannot be made or entered.
    #[error("chdir to cwd (\"{path}\") failed")]
    Cwd {
        /// The directory in the container.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program is in none of the directories of `PATH`.
    #[error("exec: \"{0}\": executable file not found in $PATH")]
    NotInPath(String),
    /// The program does not exist.
    #[error("exec: \"{0}\": stat {0}: no such file or directory")]
    NoSuchProgram(String),
    /// The program is a directory.
    #[error("exec: \"{0}\": is a directory: permission denied")]
    IsDirectory(String),
    /// The program may not be executed.
    #[error("exec: \"{0}\": permission denied")]
    PermissionDenied(String),
    /// The program is no executable of this machine, or a script without `#!`.
    #[error("exec {0}: exec format error")]
    ExecFormat(String),
    /// The program exists, but its interpreter or loader does not.
    #[error("exec {0}: no such file or directory")]
    NoInterpreter(String),
    /// The kernel does not execute the program.
    #[error("exec {path}")]
    Exec {
        /// The program.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What should be mounted does not exist on the host.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {}", .0.display())]
    NoBindSource(PathBuf),
    /// What should be shown of a mount is not in it.
    #[error("there is no `{path}` in what `{target}` should show")]
    NoPathInMount {
        /// The path in the mount.
        path: String,
        /// The path in the container.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target of a mount is relative.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    RelativeTarget(String),
    /// The target of a mount leads into `/proc`, where it could hide or fake what protects the
    /// container.
    #[error("\"{0}\" cannot be mounted because it is inside /proc")]
    TargetInProc(String),
    /// The target of a mount can be neither found nor made in the container.
    #[error("cannot make the mount point `{target}` in the container")]
    Target {
        /// The path in the container.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount failed.
    #[error("cannot mount `{target}` in the container")]
    Mount {
        /// The path in the container.
        target: String,
        /// Why.
        #[source]
        source: MountError,
    },
    /// The container's control group cannot be set up.
    #[error("cannot set up the control group `{}`", path.display())]
    Cgroup {
        /// The directory of the group.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This process may not make namespaces.
    #[error("starting a container is not permitted: it takes root's privileges")]
    NotPermitted(#[source] io::Error),
    /// A step of the preparation failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The first process died before it executed the program.
    #[error("the container's first process died before it executed the program")]
    Died,
}

impl StartError {
    /// Returns docker's exit code for `run`: 127 for a missing program, 126 for one that may not
    /// be executed, 255 for one that the kernel does not execute, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotInPath(_) | Self::NoSuchProgram(_) => 127,
            Self::IsDirectory(_) | Self::PermissionDenied(_) => 126,
            Self::ExecFormat(_) | Self::NoInterpreter(_) | Self::Exec { .. } => 255,
            Self::User(_)
            | Self::InvalidId(_)
            | Self::NoCommand
            | Self::NulByte(_)
            | Self::RelativeCwd(_)
            | Self::CwdNotDirectory(_)
            | Self::Cwd { .. }
            | Self::NoBindSource(_)
            | Self::NoPathInMount { .. }
            | Self::RelativeTarget(_)
            | Self::TargetInProc(_)
            | Self::Target { .. }
            | Self::Mount { .. }
            | Self::Cgroup { .. }
            | Self::NotPermitted(_)
            | Self::Step { .. }
            | Self::Died => 125,
        }
    }

    /// Names the step that an input/output error belongs to.
    pub(crate) fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Step {
            step,
            source: source.into(),
        }
    }

    /// Names the target that an error of a mount belongs to.
    pub(crate) fn mount(target: &str) -> impl FnOnce(MountError) -> Self + '_ {
        move |source| Self::Mount {
            target: target.to_owned(),
            source,
        }
    }
}
