//! What a Dockerfile says: stages of instructions. All words are unexpanded.

use crate::check::Rule;
use crate::{Device, MountFlag, Span, Spanned, heredoc};

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at its top.
    pub directives: Directives,
    /// `ARG` before the first `FROM`; their values are seen by `FROM` lines only.
    pub global_args: Vec<Spanned<Arg>>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// What parses but is dropped from the text; see [`check`](crate::check) for all that should
    /// not be written so.
    pub warnings: Vec<Warning>,
}

/// The parser directives, `# name=value` lines at the very top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the frontend image to parse with.
    pub syntax: Option<String>,
    /// `# escape=`: the character that escapes and continues lines; a backslash when not given.
    pub escape: char,
    /// `# check=`: which checks to skip, and whether they are errors.
    pub check: Option<String>,
    /// The line of `# check=`, 0 when not given.
    pub check_line: u32,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
            check_line: 0,
        }
    }
}

/// Something that parses but should not be written so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Which rule it breaks.
    pub rule: Rule,
    /// What is wrong, in docker's words.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// A `FROM` and the instructions up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// The base: an image, an earlier stage, or `scratch`.
    pub base: String,
    /// What a comment `# name …` above the `FROM` says.
    pub description: Option<String>,
    /// `--platform=`.
    pub platform: Option<String>,
    /// The instructions after `FROM`.
    pub instructions: Vec<Spanned<Instruction>>,
    /// The lines of the `FROM` instruction.
    pub span: Span,
    /// The text of the `FROM` instruction.
    pub text: String,
    /// The comments right above it, without their `#`.
    pub comments: Vec<String>,
}

/// One instruction after `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `RUN`.
    Run(Run),
    /// `COPY`.
    Copy(Copy),
    /// `ADD`.
    Add(Add),
    /// `ENV`.
    Env(Vec<KeyValue>),
    /// `ARG`.
    Arg(Arg),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `WORKDIR`.
    Workdir(String),
    /// `USER`.
    User(String),
    /// `LABEL`.
    Label(Vec<KeyValue>),
    /// `EXPOSE`, as written; see [`port::normalize`](crate::port::normalize).
    Expose(Vec<String>),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `ONBUILD`: the instruction after it, as the image configuration keeps it. Like docker it
    /// is parsed by the build that triggers it, with [`parse_trigger`](crate::parse_trigger).
    OnBuild(String),
    /// `MAINTAINER`.
    Maintainer(String),
}

/// `NAME=value` or the legacy `NAME value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The name, unexpanded.
    pub key: String,
    /// The value, unexpanded and with its quotes.
    pub value: String,
    /// Whether there was a `=`.
    pub form: Form,
}

/// How a pair was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `NAME=value`.
    Assignment,
    /// `NAME value`, with the rest of the line as the value.
    Legacy,
}

/// `ARG`, with one or more names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The names, in order.
    pub definitions: Vec<ArgDefinition>,
}

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name.
    pub name: String,
    /// The default, unexpanded and with its quotes; `Some("")` for `NAME=`.
    pub default: Option<String>,
    /// What a comment `# name …` above the `ARG` says.
    pub description: Option<String>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell of `SHELL`.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The line as written, without the contents of its heredocs; [`Run::program`] is what runs.
    pub command: Command,
    /// The heredocs that the line opens.
    pub heredocs: Vec<Heredoc>,
    /// `--mount=`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network=`.
    pub network: RunNetwork,
    /// `--security=`.
    pub security: RunSecurity,
    /// `--device=`, in order.
    pub devices: Vec<Device>,
}

/// What a `RUN` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A script for the shell of `SHELL`, heredocs and all.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A script that names its own interpreter. docker writes it to `/dev/pipes/<name>`, mode
    /// 0755, for this step only, and gives that path to the shell of `SHELL`.
    Script {
        /// The name of the file.
        name: String,
        /// Its content.
        content: String,
    },
}

impl Run {
    /// Returns what runs: a line that is nothing but a heredoc runs the heredoc's content, any
    /// other line gets its heredocs back for the shell to read.
    pub fn program(&self) -> Program {
        let line = match &self.command {
            Command::Exec(arguments) => return Program::Exec(arguments.clone()),
            Command::Shell(line) => line,
        };
        let Some(first) = self.heredocs.first() else {
            return Program::Shell(line.clone());
        };
        if heredoc::is_heredoc(line) {
            let content = first.text();
            return match first.content.starts_with("#!") {
                true => Program::Script {
                    name: first.name.clone(),
                    content,
                },
                false => Program::Shell(content),
            };
        }
        let mut script = line.clone();
        for heredoc in &self.heredocs {
            script.push('\n');
            script.push_str(&heredoc.content);
            script.push_str(&heredoc.name);
        }
        Program::Shell(script)
    }
}

/// The network that a `RUN` sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build was started with.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The machine's own.
    Host,
}

/// How a `RUN` is confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunSecurity {
    /// As a container.
    #[default]
    Sandbox,
    /// With all privileges.
    Insecure,
}

/// `<<NAME` and what follows up to the line `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, without quotes.
    pub name: String,
    /// The lines as written, each with its line end; see [`Heredoc::text`].
    pub content: String,
    /// Whether variables in the content are expanded: the name had no quotes.
    pub expand: bool,
    /// Whether leading tabs are removed: `<<-`.
    pub chomp: bool,
    /// The file descriptor before `<<`, 0 when not given.
    pub file_descriptor: u32,
}

impl Heredoc {
    /// Returns the content, without the tabs at line starts for `<<-`.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// A file that is written in the Dockerfile itself: a heredoc of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// The name of the file: that of the heredoc.
    pub path: String,
    /// The bytes.
    pub data: String,
    /// Whether variables in the content are expanded.
    pub expand: bool,
}

/// `COPY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// The sources, heredocs left out.
    pub sources: Vec<String>,
    /// The sources that are heredocs.
    pub contents: Vec<FileContent>,
    /// The destination.
    pub destination: String,
    /// `--from=`: a stage, its number, an image or a named context.
    pub from: Option<String>,
    /// `--chown=`.
    pub chown: Option<String>,
    /// `--chmod=`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude=`, in order.
    pub exclude: Vec<String>,
}

/// `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Add {
    /// The sources, heredocs left out: paths and URLs.
    pub sources: Vec<String>,
    /// The sources that are heredocs.
    pub contents: Vec<FileContent>,
    /// The destination.
    pub destination: String,
    /// `--chown=`.
    pub chown: Option<String>,
    /// `--chmod=`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--exclude=`, in order.
    pub exclude: Vec<String>,
    /// `--checksum=` of the only source, a URL.
    pub checksum: Option<String>,
    /// `--keep-git-dir`, when given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, when given; otherwise local archives are unpacked and remote ones are not.
    pub unpack: Option<bool>,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What to run.
    pub test: HealthcheckTest,
    /// `--interval=` in nanoseconds; 0 is inherited, here and below.
    pub interval: i64,
    /// `--timeout=` in nanoseconds.
    pub timeout: i64,
    /// `--start-period=` in nanoseconds.
    pub start_period: i64,
    /// `--start-interval=` in nanoseconds.
    pub start_interval: i64,
    /// `--retries=`.
    pub retries: i64,
}

/// What a health check runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthcheckTest {
    /// `HEALTHCHECK NONE`: no check, not even an inherited one.
    None,
    /// `HEALTHCHECK CMD`.
    Cmd(Command),
}
