//! What to do about an error.

use crate::check::SettingsError;
use crate::expand::{ExpandError, ExpandErrorKind};
use crate::matching::PatternError;
use crate::port::PortError;
use crate::{DeviceError, DurationError, MountError, ParseErrorKind};

/// Returns how an instruction is written.
fn usage(instruction: &str) -> &'static str {
    match instruction {
        "ARG" => "write `ARG <name>[=<default>]`",
        "ENV" => "write `ENV <name>=<value>`",
        "EXPOSE" => "write `EXPOSE <port>[/<protocol>]`",
        "HEALTHCHECK" => "write `HEALTHCHECK [options] CMD <command>` or `HEALTHCHECK NONE`",
        "LABEL" => "write `LABEL <name>=<value>`",
        "MAINTAINER" => "write `LABEL maintainer=<name>`",
        "ONBUILD" => "write `ONBUILD <instruction>`",
        "SHELL" => "write `SHELL [\"/bin/bash\", \"-c\"]`",
        "STOPSIGNAL" => "write `STOPSIGNAL <signal>`, for instance SIGTERM or 15",
        "USER" => "write `USER <user>[:<group>]`",
        "VOLUME" => "write `VOLUME <directory>`",
        "WORKDIR" => "write `WORKDIR <directory>`",
        _ => "write the arguments of the instruction behind its name",
    }
}

impl ParseErrorKind {
    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> String {
        let hint = match self {
            Self::Empty | Self::NoInstructions | Self::NoStages => {
                "start with `FROM <image>`, or `FROM scratch` for an empty image"
            }
            Self::NoCurrentStage => {
                "put a `FROM` before this instruction; only `ARG` may stand before the first one"
            }
            Self::LineTooLong => "copy long content from a file of the build context instead",
            Self::NotUtf8 => "save the file as UTF-8",
            Self::RepeatedDirective(_) => "remove one of the two lines",
            Self::InvalidEscape(_) => "write `# escape=\\` or `# escape=` and a backquote",
            Self::UnterminatedHeredoc(name) => {
                return format!("end it with a line that is `{name}` and nothing else");
            }
            Self::HeredocName(error) => return error.hint(),
            Self::NotStringArray => "put every element in double quotes",
            Self::TwoArguments(instruction)
            | Self::AtLeastOneArgument(instruction)
            | Self::ExactlyOneArgument(instruction)
            | Self::BlankName(instruction) => usage(instruction),
            Self::EmptyVolume => usage("VOLUME"),
            Self::ShellForm => usage("SHELL"),
            Self::HealthcheckType(_) | Self::HealthcheckCommand | Self::HealthcheckNone => {
                usage("HEALTHCHECK")
            }
            Self::MissingEquals(_) => "put values with spaces in double quotes: name=\"a b\"",
            Self::UnknownInstruction {
                suggestion: Some(name),
                ..
            } => return format!("write `{name}`"),
            Self::UnknownInstruction { .. } => {
                "if this line goes on with the one before it, end that line with `\\`"
            }
            Self::UnknownFlag {
                suggestion: Some(name),
                ..
            } => return format!("write `--{name}`"),
            Self::UnknownFlag { .. } => {
                "flags of the instruction stand before its arguments; `--` ends them"
            }
            Self::DuplicateFlag(_) => "leave one of the two out",
            Self::FlagWithoutValue(flag) => return format!("write `{flag}=<value>`"),
            Self::FlagNotBoolean { flag, .. } => {
                return format!("write `{flag}`, `{flag}=true` or `{flag}=false`");
            }
            Self::NoDestination(instruction) => {
                return format!("write `{instruction} <source>… <destination>`");
            }
            Self::HeredocDestination(instruction) => {
                return format!("put the destination last: `{instruction} <<EOF <destination>`");
            }
            Self::FromArguments => "write `FROM <image>` or `FROM <image> AS <name>`",
            Self::StageName(_) => {
                "start with a letter; go on with letters, digits, `-`, `_` and `.`"
            }
            Self::OnBuildChain => "write `ONBUILD` once",
            Self::OnBuildTrigger(_) => {
                "put this instruction in the Dockerfile that builds on the image"
            }
            Self::TriggerCount => "give each `ONBUILD` of the base image one instruction",
            Self::Duration(_) | Self::Interval(_) => "write a duration such as `30s` or `1m30s`",
            Self::Retries { .. } | Self::NegativeRetries(_) => {
                "write how many failures in a row count, for instance 3"
            }
            Self::Network(_) => "write `default`, `none` or `host`",
            Self::Security(_) => "write `sandbox` or `insecure`",
            Self::Mount(error) => return error.hint(),
            Self::Device(error) => return error.hint(),
        };
        hint.to_owned()
    }

    /// Returns the word to point at.
    pub(crate) fn culprit(&self) -> Option<&str> {
        match self {
            Self::UnknownFlag { flag: word, .. }
            | Self::FlagNotBoolean { flag: word, .. }
            | Self::DuplicateFlag(word)
            | Self::FlagWithoutValue(word)
            | Self::MissingEquals(word)
            | Self::StageName(word)
            | Self::Network(word)
            | Self::Security(word)
            | Self::UnterminatedHeredoc(word)
            | Self::Retries { text: word, .. }
            | Self::InvalidEscape(word)
            | Self::RepeatedDirective(word)
            | Self::HealthcheckType(word)
            | Self::Duration(
                DurationError::Invalid(word)
                | DurationError::MissingUnit(word)
                | DurationError::UnknownUnit { text: word, .. },
            ) => Some(word),
            Self::Interval(flag) => Some(flag),
            Self::HeredocName(error) => Some(&error.word),
            Self::NotStringArray => Some("["),
            Self::BlankName(_) => Some("="),
            Self::HeredocDestination(_) => Some("<<"),
            Self::NegativeRetries(_) => Some("--retries"),
            Self::OnBuildTrigger(name) => Some(name),
            Self::Mount(error) => error.culprit(),
            Self::Device(error) => error.culprit(),
            Self::Empty
            | Self::NoInstructions
            | Self::NoStages
            | Self::NoCurrentStage
            | Self::LineTooLong
            | Self::NotUtf8
            | Self::TwoArguments(_)
            | Self::UnknownInstruction { .. }
            | Self::AtLeastOneArgument(_)
            | Self::ExactlyOneArgument(_)
            | Self::NoDestination(_)
            | Self::FromArguments
            | Self::OnBuildChain
            | Self::TriggerCount
            | Self::HealthcheckNone
            | Self::HealthcheckCommand
            | Self::EmptyVolume
            | Self::ShellForm => None,
        }
    }
}

impl ExpandError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let hint = match &self.kind {
            ExpandErrorKind::UnclosedQuote("single") => {
                "close the quote, or put the word in double quotes"
            }
            ExpandErrorKind::UnclosedQuote(_) => "close the quote, or write `\\\"` for one",
            ExpandErrorKind::MissingBrace => "close `${` with `}`",
            ExpandErrorKind::MissingSlash => "write `${name/pattern/replacement}`",
            ExpandErrorKind::BadSubstitution => "write `${name}`, or `\\$` for a dollar sign",
            ExpandErrorKind::UnsupportedModifier(_) => {
                "write `${name}`, or one of `:-` `:+` `:?` `-` `+` `?` `#` `##` `%` `%%` `/` `//` \
                 behind the name"
            }
            ExpandErrorKind::Required { name, .. } => {
                return format!("give it a value: `--build-arg {name}=…`, or `ARG {name}=…` above");
            }
            ExpandErrorKind::InvalidPattern { .. } => {
                "a backslash stands before `*`, `?`, `}`, `/` or a backslash only"
            }
            ExpandErrorKind::TooDeep => "give parts of it names of their own with `ARG`",
        };
        hint.to_owned()
    }
}

impl MountError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Expand(error) => return error.hint(),
            Self::Quotes(_) => "close the quotes around a field; within them a quote is doubled",
            Self::NotAPair(field) => return format!("write `{field}=<value>`"),
            Self::FromVariable => "write `FROM $NAME AS tools` above and `from=tools` here",
            Self::UnexpectedKey {
                suggestion: Some(key),
                ..
            } => return format!("write `{key}`"),
            Self::UnexpectedKey { .. } => {
                "the keys are type, target, source, from, readonly, id, sharing, mode, uid, gid, \
                 size, required and env"
            }
            Self::KeyOfOtherType { key, .. } => {
                return format!("leave `{key}` out, or put the `type` that has it before it");
            }
            Self::UnsupportedType {
                suggestion: Some(name),
                ..
            } => return format!("write `type={name}`"),
            Self::UnsupportedType { .. } => "the types are bind, cache, tmpfs, secret and ssh",
            Self::UnsupportedSharing {
                suggestion: Some(name),
                ..
            } => return format!("write `sharing={name}`"),
            Self::UnsupportedSharing { .. } => "write shared, private or locked",
            Self::InvalidValue { key, .. } if key == "size" => "write a size such as 64m",
            Self::InvalidValue { .. } => "write true or false",
            Self::InvalidNumber { key: "mode", .. } => "write an octal number such as 0755",
            Self::InvalidNumber { .. } => "write a number",
            Self::OwnershipNotAllowed { key, .. } => {
                return format!("leave `{key}` out: it is for caches, secrets and agents");
            }
            Self::SecretFrom => "leave `from` out: `build --secret` gives secrets",
            Self::SecretSharing | Self::SharingNotAllowed(_) => {
                "leave `sharing` out: it is for caches"
            }
            Self::SecretWithoutName => "write `id=<name>`, as in `build --secret id=<name>,…`",
            Self::SecretWithTwoNames => "leave one of `source` and `id` out",
        };
        hint.to_owned()
    }

    /// Returns the word to point at.
    pub fn culprit(&self) -> Option<&str> {
        match self {
            Self::Expand(error) => Some(&error.word),
            Self::NotAPair(word)
            | Self::UnexpectedKey { field: word, .. }
            | Self::UnsupportedType { name: word, .. }
            | Self::UnsupportedSharing { name: word, .. }
            | Self::InvalidValue { value: word, .. }
            | Self::InvalidNumber { value: word, .. }
            | Self::Quotes(word) => Some(word),
            Self::KeyOfOtherType { key, .. } | Self::OwnershipNotAllowed { key, .. } => Some(key),
            Self::FromVariable | Self::SecretFrom => Some("from="),
            Self::SecretSharing | Self::SharingNotAllowed(_) => Some("sharing="),
            Self::SecretWithTwoNames => Some("id="),
            Self::SecretWithoutName => Some("--mount"),
        }
    }
}

impl DeviceError {
    fn hint(&self) -> String {
        let hint = match self {
            Self::Quotes(_) => "close the quotes around a field; within them a quote is doubled",
            Self::Renamed(_) => "leave one of the two names out",
            Self::Required(_) => "write true or false",
            Self::NotAPair(_) | Self::UnexpectedKey { .. } => "the keys are name and required",
        };
        hint.to_owned()
    }

    fn culprit(&self) -> Option<&str> {
        match self {
            Self::Quotes(word)
            | Self::NotAPair(word)
            | Self::Required(word)
            | Self::UnexpectedKey { field: word, .. } => Some(word),
            Self::Renamed(_) => Some("name="),
        }
    }
}

impl PortError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Missing(_) => usage("EXPOSE"),
            Self::Protocol { .. } => "the protocols are tcp, udp and sctp",
            Self::ContainerPort(_) => "write a port up to 65535, or a range such as 8000-8010",
            Self::HostPort(_) | Self::Address(_) | Self::Ranges { .. } => {
                "write the container's port only: `run --publish` says what it is on the host"
            }
        };
        hint.to_owned()
    }

    /// Returns the word to point at.
    pub fn culprit(&self) -> &str {
        match self {
            Self::Missing(word)
            | Self::Protocol { protocol: word, .. }
            | Self::ContainerPort(word)
            | Self::HostPort(word)
            | Self::Address(word)
            | Self::Ranges {
                container: word, ..
            } => word,
        }
    }
}

impl PatternError {
    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Syntax(_) => {
                "close `[`, begin a range with its lower end, or put a backslash before a \
                 character that stands for itself"
            }
            Self::LoneExclamation => "put a pattern behind `!`",
        }
    }
}

impl SettingsError {
    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        "write `# check=skip=<rule>,<rule>;error=true`"
    }
}
