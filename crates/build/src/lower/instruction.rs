//! Instructions to operations and changes of the configuration.

use dockerfile::expand::{self, ExpandError};
use dockerfile::{Add, Arg, Copy, FileContent, Instruction, KeyValue, Run, Span, Spanned, port};

use super::stage::{Lowering, StageState};
use super::{LowerError, metadata, mount, run};
use crate::located::Located;
use crate::vertex::{
    Archives, Destination, DestinationForm, Files, FilesFrom, Item, Link, Mount, MountKind,
    Operation, RunStep, Workdir,
};
use crate::{Chmod, GitSource};

/// An operation, the text of its history entry, and its name.
pub(super) type Step = (Operation, String, String);

/// What `COPY` and `ADD` have in common.
struct CopyFlags<'a> {
    keyword: &'static str,
    sources: &'a [String],
    contents: &'a [FileContent],
    destination: &'a str,
    chown: Option<&'a str>,
    chmod: Option<&'a str>,
    link: bool,
    parents: bool,
    exclude: &'a [String],
}

impl Lowering<'_> {
    /// Lowers one instruction: changes the configuration, or returns the step that it is.
    pub(super) fn lower_instruction(
        &mut self,
        state: &mut StageState,
        instruction: &Spanned<Instruction>,
    ) -> Result<Option<Step>, Located<LowerError>> {
        let span = instruction.span;
        let at = |error: LowerError| Located::at(span, error);
        match &instruction.value {
            Instruction::Run(run) => self.run(state, instruction, run).map(Some),
            Instruction::Workdir(path) => self.workdir(state, instruction, path).map_err(at),
            Instruction::Copy(copy) => self.copy(state, instruction, copy).map(Some),
            Instruction::Add(add) => self.add(state, instruction, add).map(Some).map_err(at),
            metadata => {
                let text = self.metadata(state, metadata).map_err(at)?;
                if let Some(text) = text {
                    state.note(text);
                }
                Ok(None)
            }
        }
    }

    fn expand(&self, state: &StageState, word: &str) -> Result<String, ExpandError> {
        state.lowered.env.expand(word, self.plan.escape)
    }

    fn expand_all(&self, state: &StageState, words: &[String]) -> Result<Vec<String>, ExpandError> {
        words.iter().map(|word| self.expand(state, word)).collect()
    }

    fn pairs(
        &self,
        state: &StageState,
        pairs: &[KeyValue],
    ) -> Result<Vec<(String, String)>, ExpandError> {
        let expand = |pair: &KeyValue| {
            Ok((
                self.expand(state, &pair.key)?,
                self.expand(state, &pair.value)?,
            ))
        };
        pairs.iter().map(expand).collect()
    }

    /// Applies an instruction that only changes the configuration; returns its history text.
    fn metadata(
        &self,
        state: &mut StageState,
        instruction: &Instruction,
    ) -> Result<Option<String>, LowerError> {
        let text = match instruction {
            Instruction::Env(pairs) => {
                let pairs = self.pairs(state, pairs)?;
                for (name, value) in &pairs {
                    state.lowered.env.set(name, value);
                }
                metadata::env(&mut state.lowered.config.config, &pairs)
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs(state, pairs)?;
                metadata::label(&mut state.lowered.config.config, &pairs)
            }
            Instruction::Arg(arg) => self.arg(state, arg)?,
            Instruction::Cmd(command) => {
                state.cmd = metadata::CmdOrigin::Stage;
                metadata::cmd(&mut state.lowered.config.config, command)
            }
            Instruction::Entrypoint(command) => {
                metadata::entrypoint(&mut state.lowered.config.config, command, state.cmd)
            }
            Instruction::User(user) => {
                let user = self.expand(state, user)?;
                metadata::user(&mut state.lowered.config.config, &user)
            }
            Instruction::Expose(specifications) => {
                let ports = self.ports(state, specifications)?;
                metadata::expose(&mut state.lowered.config.config, &ports)
            }
            Instruction::Volume(paths) => {
                let paths = self.expand_all(state, paths)?;
                if paths.iter().any(String::is_empty) {
                    return Err(LowerError::EmptyVolume);
                }
                metadata::volume(&mut state.lowered.config.config, &paths)
            }
            Instruction::StopSignal(signal) => {
                let signal = self.expand(state, signal)?;
                if !runtime::signal::is_signal(&signal) {
                    return Err(LowerError::InvalidSignal(signal));
                }
                metadata::stop_signal(&mut state.lowered.config.config, &signal)
            }
            Instruction::Shell(shell) => metadata::shell(&mut state.lowered.config.config, shell),
            Instruction::Healthcheck(check) => {
                metadata::healthcheck(&mut state.lowered.config.config, check)
            }
            Instruction::Maintainer(name) => metadata::maintainer(&mut state.lowered.config, name),
            Instruction::OnBuild(trigger) => {
                let triggers = &mut state.lowered.config.config.on_build;
                triggers.push(trigger.clone());
                return Ok(None);
            }
            Instruction::Run(_)
            | Instruction::Copy(_)
            | Instruction::Add(_)
            | Instruction::Workdir(_) => return Ok(None),
        };
        Ok(Some(text))
    }

    fn arg(&self, state: &mut StageState, arg: &Arg) -> Result<String, LowerError> {
        let mut words = vec!["ARG".to_owned()];
        for definition in &arg.definitions {
            let name = &definition.name;
            let value = match (self.build_args.get(name), &definition.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(state, default)?),
                (None, None) => self.plan.globals.get(name).map(str::to_owned),
            };
            if let Some(value) = &value {
                state.lowered.env.set(name, value);
                words.push(format!("{name}={value}"));
            } else {
                words.push(name.clone());
            }
            state
                .lowered
                .build_args
                .push((name.clone(), value.unwrap_or_default()));
        }
        Ok(words.join(" "))
    }

    fn ports(
        &self,
        state: &StageState,
        specifications: &[String],
    ) -> Result<Vec<String>, LowerError> {
        let variable = |name: &str| state.lowered.env.get(name).map(str::to_owned);
        let mut ports = Vec::new();
        for specification in specifications {
            for word in expand::words(specification, &variable, self.plan.escape)? {
                ports.extend(port::normalize(&word)?);
            }
        }
        Ok(ports)
    }

    fn workdir(
        &self,
        state: &mut StageState,
        instruction: &Spanned<Instruction>,
        path: &str,
    ) -> Result<Option<Step>, LowerError> {
        let written = self.expand(state, path)?;
        let config = &mut state.lowered.config.config;
        config.working_dir = metadata::configured_directory(&config.working_dir, &written);
        let text = format!("WORKDIR {}", config.working_dir);
        let path = metadata::clean(&config.working_dir);
        if path == "/" {
            state.note(text);
            return Ok(None);
        }
        let user = config.user.clone();
        let name = self.step_text(state, &instruction.text);
        Ok(Some((
            Operation::Workdir(Workdir { path, user }),
            text,
            name,
        )))
    }

    fn run(
        &mut self,
        state: &StageState,
        instruction: &Spanned<Instruction>,
        run: &Run,
    ) -> Result<Step, Located<LowerError>> {
        run::check(run).map_err(|error| Located::at(instruction.span, error))?;
        let mounts = self.mounts(state, run, instruction.span)?;
        let config = &state.lowered.config.config;
        let command = run::command(config, run);
        let text = run::history(&command.args, &self.values(state));
        let mut name = self.run_text(state, &instruction.text);
        if let Some(summary) = command.summary {
            name = format!("{name} ({summary})");
        }
        let proxies = crate::variables::proxies(self.build_args);
        let proxy = |(name, value)| format!("{name}={value}");
        let step = RunStep {
            args: command.args,
            env: state.lowered.env.assignments(),
            proxies: proxies.into_iter().map(proxy).collect(),
            user: config.user.clone(),
            cwd: match config.working_dir.as_str() {
                "" => String::new(),
                path => metadata::clean(path),
            },
            network: run::network(run),
            script: command.script,
            mounts,
        };
        Ok((Operation::Run(step), text, name))
    }

    fn mounts(
        &mut self,
        state: &StageState,
        run: &Run,
        span: Span,
    ) -> Result<Vec<Mount>, Located<LowerError>> {
        let working_directory = &state.lowered.config.config.working_dir;
        let variable = |name: &str| state.lowered.env.get(name).map(str::to_owned);
        let mut mounts: Vec<Mount> = Vec::with_capacity(run.mounts.len());
        for flag in &run.mounts {
            let at = |error: LowerError| Located::at_word(span, flag.text(), error);
            let written = flag
                .resolve(&variable, self.plan.escape)
                .map_err(|error| at(error.into()))?;
            let mut from = match flag.from() {
                Some(from) => Some(self.files_from(state, from, span)?),
                None => None,
            };
            if let (dockerfile::MountKind::Cache { .. }, Some(FilesFrom::Context(Some(name)))) =
                (&written.kind, &from)
            {
                from = Some(FilesFrom::Origin(self.layer_of_context(name, span)));
            }
            let is_agent = |mount: &&Mount| matches!(mount.kind, MountKind::Ssh { .. });
            let agents = mounts.iter().filter(is_agent).count();
            mounts.push(mount::lower(written, from, working_directory, agents).map_err(at)?);
        }
        Ok(mounts)
    }

    /// Returns the arguments in scope with what they are worth now.
    fn values(&self, state: &StageState) -> Vec<(String, String)> {
        let lowered = &state.lowered;
        let value = |(name, given): &(String, String)| {
            let current = lowered.env.get(name).unwrap_or(given);
            (name.clone(), current.to_owned())
        };
        lowered.build_args.iter().map(value).collect()
    }

    fn copy(
        &mut self,
        state: &mut StageState,
        instruction: &Spanned<Instruction>,
        copy: &Copy,
    ) -> Result<Step, Located<LowerError>> {
        let span = instruction.span;
        let at = |error: LowerError| Located::at(span, error);
        let from = match &copy.from {
            None => FilesFrom::Context(None),
            Some(from) => self.files_from(state, from, span)?,
        };
        for source in &copy.sources {
            let at = |error| Located::at_word(span, source, error);
            let expanded = self
                .expand(state, source)
                .map_err(|error| at(error.into()))?;
            match item(expanded).map_err(at)? {
                Item::Url(_) => return Err(at(LowerError::UrlInCopy)),
                Item::Git(_) => return Err(at(LowerError::GitInCopy)),
                Item::Path(_) | Item::Below { .. } | Item::Inline { .. } => {}
            }
        }
        let flags = CopyFlags {
            keyword: "COPY",
            sources: &copy.sources,
            contents: &copy.contents,
            destination: &copy.destination,
            chown: copy.chown.as_deref(),
            chmod: copy.chmod.as_deref(),
            link: copy.link,
            parents: copy.parents,
            exclude: &copy.exclude,
        };
        let (files, text) = self.files(state, &flags, from).map_err(at)?;
        let name = self.step_text(state, &instruction.text);
        Ok((Operation::Files(files), text, name))
    }

    fn add(
        &self,
        state: &mut StageState,
        instruction: &Spanned<Instruction>,
        add: &Add,
    ) -> Result<Step, LowerError> {
        let flags = CopyFlags {
            keyword: "ADD",
            sources: &add.sources,
            contents: &add.contents,
            destination: &add.destination,
            chown: add.chown.as_deref(),
            chmod: add.chmod.as_deref(),
            link: add.link,
            parents: false,
            exclude: &add.exclude,
        };
        let (mut files, text) = self.files(state, &flags, FilesFrom::Context(None))?;
        files.archives = match add.unpack {
            None => Archives::UnpackLocal,
            Some(true) => Archives::UnpackAll,
            Some(false) => Archives::Keep,
        };
        for item in &mut files.items {
            if let (Item::Git(source), Some(keep)) = (item, add.keep_git_dir) {
                **source = source.clone().keeping_git_dir(keep)?;
            }
        }
        if let Some(checksum) = &add.checksum {
            let checksum = self.expand(state, checksum)?;
            match files.items.as_mut_slice() {
                [Item::Url(_)] => {
                    let digest = checksum.parse().map_err(LowerError::InvalidChecksum)?;
                    files.checksum = Some(digest);
                }
                [Item::Git(source)] => **source = source.clone().with_checksum(checksum)?,
                [_] => return Err(LowerError::ChecksumOfLocal),
                _ => return Err(LowerError::ChecksumOfMany),
            }
        }
        let name = self.step_text(state, &instruction.text);
        Ok((Operation::Files(files), text, name))
    }

    fn files(
        &self,
        state: &StageState,
        flags: &CopyFlags<'_>,
        from: FilesFrom,
    ) -> Result<(Files, String), LowerError> {
        let expand = |word: Option<&str>| word.map(|word| self.expand(state, word)).transpose();
        let owner = expand(flags.chown)?.filter(|owner| !owner.is_empty());
        let mode = expand(flags.chmod)?.filter(|mode| !mode.is_empty());
        let sources = self.expand_all(state, flags.sources)?;
        let destination = self.expand(state, flags.destination)?;
        let mut words = vec![flags.keyword.to_owned()];
        words.extend(flags.parents.then(|| "--parents".to_owned()));
        words.extend(owner.iter().map(|owner| format!("--chown={owner}")));
        words.extend(mode.iter().map(|mode| format!("--chmod={mode}")));
        words.extend_from_slice(&sources);
        let mut items = Vec::new();
        for source in sources {
            items.push(match flags.parents {
                true => below(&source),
                false => item(source)?,
            });
        }
        for content in flags.contents {
            words.push(format!("<<{}", content.path));
            let variable = |name: &str| state.lowered.env.get(name).map(str::to_owned);
            let text = match content.expand {
                true => expand::raw(&content.data, &variable, '\\')?,
                false => content.data.clone(),
            };
            items.push(Item::Inline {
                name: content.path.clone(),
                content: text,
            });
        }
        words.push(destination.clone());
        let files = Files {
            from,
            items,
            destination: absolute(&state.lowered.config.config.working_dir, &destination),
            owner,
            mode: mode.as_deref().map(parse_mode).transpose()?,
            exclude: self.expand_all(state, flags.exclude)?,
            archives: Archives::Keep,
            link: if flags.link {
                Link::Apart
            } else {
                Link::Parent
            },
            checksum: None,
        };
        Ok((files, words.join(" ") + " # buildkit"))
    }

    /// Returns an instruction as docker names its step: expanded, its keyword in upper case.
    fn step_text(&self, state: &StageState, text: &str) -> String {
        let expanded = self.expand(state, text);
        upper_keyword(&expanded.unwrap_or_else(|_| text.to_owned()))
    }

    /// As `step_text`, for `RUN`: quotes stay, and so do variables that are not set.
    fn run_text(&self, state: &StageState, text: &str) -> String {
        let variable = |name: &str| {
            let value = state.lowered.env.get(name).map(str::to_owned);
            Some(value.unwrap_or_else(|| format!("${name}")))
        };
        let expanded = expand::raw(text, &variable, self.plan.escape);
        upper_keyword(&expanded.unwrap_or_else(|_| text.to_owned()))
    }
}

fn upper_keyword(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_ascii_uppercase()),
        None => text.to_ascii_uppercase(),
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Returns what a source of `COPY` or `ADD` is.
fn item(source: String) -> Result<Item, LowerError> {
    match GitSource::parse(&source) {
        Some(git) => Ok(Item::Git(Box::new(git?))),
        None if is_url(&source) => Ok(Item::Url(source)),
        None => Ok(Item::Path(metadata::clean(&source))),
    }
}

/// What stands before `/./` is the base.
fn below(source: &str) -> Item {
    let (base, pattern) = source.split_once("/./").unwrap_or(("/", source));
    Item::Below {
        base: metadata::clean(base),
        pattern: metadata::clean(pattern).split_off(1),
    }
}

fn absolute(working_directory: &str, destination: &str) -> Destination {
    let is_directory = destination.is_empty()
        || destination == "."
        || destination.ends_with('/')
        || destination.ends_with("/.");
    Destination {
        path: metadata::working_directory(working_directory, destination),
        form: if is_directory {
            DestinationForm::Directory
        } else {
            DestinationForm::Any
        },
    }
}

fn parse_mode(text: &str) -> Result<Chmod, LowerError> {
    Chmod::parse(text).ok_or_else(|| LowerError::InvalidMode(text.to_owned()))
}
