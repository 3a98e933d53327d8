//! The names of the rules.

/// A rule of BuildKit, or of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Stage names are lower case.
    StageNameCasing,
    /// `as` is written like `from`.
    FromAsCasing,
    /// No blank lines in an instruction.
    NoEmptyContinuation,
    /// All instructions are upper case, or all are lower case.
    ConsistentInstructionCasing,
    /// No two stages have one name.
    DuplicateStageName,
    /// No stage is named `scratch` or `context`.
    ReservedStageName,
    /// `CMD` and `ENTRYPOINT` are JSON.
    JsonArgsRecommended,
    /// No `MAINTAINER`.
    MaintainerDeprecated,
    /// `FROM` uses declared arguments.
    UndefinedArgInFrom,
    /// The first `WORKDIR` is absolute.
    WorkdirRelativePath,
    /// Variables are defined before they are used.
    UndefinedVar,
    /// One `CMD`, `ENTRYPOINT` and `HEALTHCHECK` for each stage.
    MultipleInstructionsDisallowed,
    /// `ENV name=value`, not `ENV name value`.
    LegacyKeyValueFormat,
    /// `--platform=$TARGETPLATFORM` says nothing.
    RedundantTargetPlatform,
    /// No secrets in `ARG` and `ENV`.
    SecretsUsedInArgOrEnv,
    /// Without build arguments `FROM` still names images.
    InvalidDefaultArgInFrom,
    /// `--platform=` is not constant.
    FromPlatformFlagConstDisallowed,
    /// `COPY` names nothing that `.dockerignore` excludes.
    CopyIgnoredFile,
    /// A comment above `ARG` or `FROM` describes it.
    InvalidDefinitionDescription,
    /// Protocols are lower case.
    ExposeProtoCasing,
    /// `EXPOSE` has no addresses and host ports.
    ExposeInvalidFormat,
    /// What an installation needs is copied before the rest of the context.
    ContextCopiedBeforeInstall,
    /// What differs in each build is declared below what does not use it.
    VolatileValueBeforeInstall,
    /// A package index is used in the layer that it was fetched in.
    PackageIndexInOtherLayer,
}

impl Rule {
    /// Returns the name of the rule, which skips it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StageNameCasing => "StageNameCasing",
            Self::FromAsCasing => "FromAsCasing",
            Self::NoEmptyContinuation => "NoEmptyContinuation",
            Self::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Self::DuplicateStageName => "DuplicateStageName",
            Self::ReservedStageName => "ReservedStageName",
            Self::JsonArgsRecommended => "JSONArgsRecommended",
            Self::MaintainerDeprecated => "MaintainerDeprecated",
            Self::UndefinedArgInFrom => "UndefinedArgInFrom",
            Self::WorkdirRelativePath => "WorkdirRelativePath",
            Self::UndefinedVar => "UndefinedVar",
            Self::MultipleInstructionsDisallowed => "MultipleInstructionsDisallowed",
            Self::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Self::RedundantTargetPlatform => "RedundantTargetPlatform",
            Self::SecretsUsedInArgOrEnv => "SecretsUsedInArgOrEnv",
            Self::InvalidDefaultArgInFrom => "InvalidDefaultArgInFrom",
            Self::FromPlatformFlagConstDisallowed => "FromPlatformFlagConstDisallowed",
            Self::CopyIgnoredFile => "CopyIgnoredFile",
            Self::InvalidDefinitionDescription => "InvalidDefinitionDescription",
            Self::ExposeProtoCasing => "ExposeProtoCasing",
            Self::ExposeInvalidFormat => "ExposeInvalidFormat",
            Self::ContextCopiedBeforeInstall => "ContextCopiedBeforeInstall",
            Self::VolatileValueBeforeInstall => "VolatileValueBeforeInstall",
            Self::PackageIndexInOtherLayer => "PackageIndexInOtherLayer",
        }
    }

    /// Returns what the rule asks for.
    pub fn description(self) -> &'static str {
        match self {
            Self::StageNameCasing => "Stage names should be lowercase",
            Self::FromAsCasing => "The 'as' keyword should match the case of the 'from' keyword",
            Self::NoEmptyContinuation => {
                "Empty continuation lines will become errors in a future release"
            }
            Self::ConsistentInstructionCasing => {
                "All commands within the Dockerfile should use the same casing (either upper or lower)"
            }
            Self::DuplicateStageName => "Stage names should be unique",
            Self::ReservedStageName => "Reserved words should not be used as stage names",
            Self::JsonArgsRecommended => {
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
            }
            Self::MaintainerDeprecated => {
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
            }
            Self::UndefinedArgInFrom => "FROM command must use declared ARGs",
            Self::WorkdirRelativePath => {
                "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes"
            }
            Self::UndefinedVar => "Variables should be defined before their use",
            Self::MultipleInstructionsDisallowed => {
                "Multiple instructions of the same type should not be used in the same stage"
            }
            Self::LegacyKeyValueFormat => {
                "Legacy key/value format with whitespace separator should not be used"
            }
            Self::RedundantTargetPlatform => {
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
            }
            Self::SecretsUsedInArgOrEnv => {
                "Sensitive data should not be used in the ARG or ENV commands"
            }
            Self::InvalidDefaultArgInFrom => {
                "Default value for global ARG results in an empty or invalid base image name"
            }
            Self::FromPlatformFlagConstDisallowed => {
                "FROM --platform flag should not use a constant value"
            }
            Self::CopyIgnoredFile => "Attempting to Copy file that is excluded by .dockerignore",
            Self::InvalidDefinitionDescription => {
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment."
            }
            Self::ExposeProtoCasing => "Protocol in EXPOSE instruction should be lowercase",
            Self::ExposeInvalidFormat => {
                "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release"
            }
            Self::ContextCopiedBeforeInstall => {
                "Files that an installation needs should be copied before the rest of the context"
            }
            Self::VolatileValueBeforeInstall => {
                "Values that differ in each build should be declared below what does not use them"
            }
            Self::PackageIndexInOtherLayer => {
                "A package index should be fetched in the RUN that uses it"
            }
        }
    }

    /// Returns whether the rule is our own: it is about speed, is kept apart from BuildKit's, and
    /// fails no build.
    pub fn is_advice(self) -> bool {
        matches!(
            self,
            Self::ContextCopiedBeforeInstall
                | Self::VolatileValueBeforeInstall
                | Self::PackageIndexInOtherLayer
        )
    }

    /// Returns docker's page about the rule, or the place in our own documentation.
    pub fn url(self) -> String {
        if self.is_advice() {
            return format!("docs/dockerfile.md#{}", self.name().to_lowercase());
        }
        let mut page = String::new();
        let name: Vec<char> = self.name().chars().collect();
        for (at, c) in name.iter().enumerate() {
            let follows_lower = at > 0 && name[at - 1].is_lowercase();
            let starts_word = at > 0 && name.get(at + 1).is_some_and(|next| next.is_lowercase());
            if c.is_uppercase() && (follows_lower || starts_word) {
                page.push('-');
            }
            page.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
    }

    /// Returns whether the rule must be asked for.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }
}
