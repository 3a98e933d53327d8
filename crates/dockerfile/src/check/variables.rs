//! Rules that need to know what variables are worth.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Findings;
use super::scope::Scope;
use super::style::keyword;
use super::{CheckOptions, Coverage, Rule};
use crate::expand::{self, Expansion};
use crate::ignore::clean;
use crate::{
    Arg, Command, Dockerfile, Form, HealthcheckTest, Instruction, KeyValue, Span, Spanned, Stage,
    port, suggest,
};

/// Words of a variable's name that promise a secret.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words of a variable's name that take the promise back.
const NO_SECRET: [&str; 3] = ["public", "file", "version"];

const TARGET_PLATFORM: &str = "TARGETPLATFORM";

pub(super) fn check(dockerfile: &Dockerfile, options: &CheckOptions<'_>, findings: &mut Findings) {
    let escape = dockerfile.directives.escape;
    let no_args = BTreeMap::new();
    let (defaults, _) = global_scope(dockerfile, options, &no_args);
    for stage in &dockerfile.stages {
        let Ok(base) = defaults.expand(&stage.base, escape) else {
            break;
        };
        if !(options.is_image_name)(&base.text) {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            findings.add(Rule::InvalidDefaultArgInFrom, stage.span, message);
        }
    }
    let (globals, names) = global_scope(dockerfile, options, options.build_args);
    let mut bases = Vec::with_capacity(dockerfile.stages.len());
    for stage in &dockerfile.stages {
        findings.with_comments(&stage.comments, |findings| {
            bases.push(from(stage, &globals, &names, escape, findings));
        });
    }
    let needed = needed(dockerfile, &bases, options.coverage);
    let mut checker = Checker {
        options,
        findings,
        globals: &globals,
        escape,
    };
    let mut scopes: Vec<Scope> = Vec::with_capacity(dockerfile.stages.len());
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let mut scope = match stage_named(&dockerfile.stages[..index], &bases[index]) {
            Some(base) => scopes[base].clone(),
            None => Scope::of((options.base)(&bases[index])),
        };
        if needed.contains(&index) {
            checker.stage(stage, &mut scope);
        }
        scopes.push(scope);
    }
}

/// Returns what `FROM` lines see, and all names that are declared for them.
fn global_scope(
    dockerfile: &Dockerfile,
    options: &CheckOptions<'_>,
    build_args: &BTreeMap<String, String>,
) -> (Scope, BTreeSet<String>) {
    let mut scope = Scope {
        variables: options.platform_args.clone(),
        ..Scope::default()
    };
    let mut names: BTreeSet<String> = scope.variables.keys().cloned().collect();
    let args = dockerfile
        .global_args
        .iter()
        .flat_map(|arg| &arg.value.definitions);
    for definition in args {
        let escape = dockerfile.directives.escape;
        let default = || scope.expand(definition.default.as_ref()?, escape).ok();
        let value = match build_args.get(&definition.name) {
            Some(value) => Some(value.clone()),
            None => default().map(|expansion| expansion.text),
        };
        names.insert(definition.name.clone());
        if let Some(value) = value {
            scope.variables.insert(definition.name.clone(), value);
        }
    }
    (scope, names)
}

/// Checks a `FROM` line; returns its expanded base.
fn from(
    stage: &Stage,
    globals: &Scope,
    names: &BTreeSet<String>,
    escape: char,
    findings: &mut Findings,
) -> String {
    let undefined = |expansion: &Expansion, findings: &mut Findings| {
        for name in expansion.unset.iter().filter(|name| !names.contains(*name)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = suggest::nearest(name, &names);
            let hint = hint
                .map(|hint| format!(" (did you mean {hint}?)"))
                .unwrap_or_default();
            let message = format!("FROM argument '{name}' is not declared{hint}");
            findings.add(Rule::UndefinedArgInFrom, stage.span, message);
        }
    };
    let base = globals.expand(&stage.base, escape).unwrap_or_default();
    undefined(&base, findings);
    if let Some(platform) = &stage.platform
        && let Ok(expansion) = globals.expand(platform, escape)
    {
        undefined(&expansion, findings);
        check_platform(stage, platform, &expansion, globals, findings);
    }
    base.text
}

fn check_platform(
    stage: &Stage,
    written: &str,
    expansion: &Expansion,
    globals: &Scope,
    findings: &mut Findings,
) {
    let is_constant = expansion.used.is_empty() && expansion.unset.is_empty();
    if is_constant {
        let name = stage.name.as_deref().unwrap_or_default();
        let parts = platform_parts(&expansion.text);
        let says_so = parts.iter().any(|part| name.contains(part.as_str()));
        if !parts.is_empty() && !says_so {
            let message = format!(
                "FROM --platform flag should not use constant value {:?}",
                expansion.text
            );
            findings.add(Rule::FromPlatformFlagConstDisallowed, stage.span, message);
        }
    }
    let only_target = expansion.unset.is_empty()
        && expansion.used.iter().eq([TARGET_PLATFORM])
        && globals.variables.get(TARGET_PLATFORM) == Some(&expansion.text);
    if only_target {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        findings.add(Rule::RedundantTargetPlatform, stage.span, message);
    }
}

/// Returns the system and the processor of a platform, or nothing when it is none.
fn platform_parts(platform: &str) -> Vec<String> {
    let parts: Vec<&str> = platform.split('/').collect();
    let valid = |part: &&str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    if parts.len() > 3 || !parts.iter().all(valid) {
        return Vec::new();
    }
    let parts = parts
        .iter()
        .take(2)
        .map(|part| match part.to_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            lower => lower.to_owned(),
        });
    parts.collect()
}

/// Returns the stage that a name means, given the stages before.
fn stage_named(stages: &[Stage], name: &str) -> Option<usize> {
    stages
        .iter()
        .rposition(|stage| stage.name.as_deref() == Some(name))
}

/// Returns the stages that are checked.
fn needed(dockerfile: &Dockerfile, bases: &[String], coverage: Coverage<'_>) -> BTreeSet<usize> {
    let stages = &dockerfile.stages;
    let target = match coverage {
        Coverage::All => return (0..stages.len()).collect(),
        Coverage::Target(None) => stages.len().checked_sub(1),
        Coverage::Target(Some(name)) => reference(stages, name),
    };
    let mut needed = BTreeSet::new();
    let mut open: Vec<usize> = target.into_iter().collect();
    while let Some(index) = open.pop() {
        if !needed.insert(index) {
            continue;
        }
        open.extend(stage_named(&stages[..index], &bases[index]));
        for instruction in &stages[index].instructions {
            match &instruction.value {
                Instruction::Copy(copy) => {
                    open.extend(copy.from.iter().filter_map(|name| reference(stages, name)));
                }
                Instruction::Run(run) => {
                    let names = run.mounts.iter().filter_map(|mount| mount.from());
                    open.extend(names.filter_map(|name| reference(stages, name)));
                }
                _ => {}
            }
        }
    }
    needed
}

/// Returns the stage that a name or number means.
fn reference(stages: &[Stage], name: &str) -> Option<usize> {
    let number = || name.parse().ok().filter(|number| *number < stages.len());
    stage_named(stages, &name.to_lowercase()).or_else(number)
}

struct Checker<'a, 'b> {
    options: &'a CheckOptions<'a>,
    findings: &'b mut Findings,
    globals: &'a Scope,
    escape: char,
}

impl Checker<'_, '_> {
    fn stage(&mut self, stage: &Stage, scope: &mut Scope) {
        let mut last: BTreeMap<&'static str, Span> = BTreeMap::new();
        for instruction in &stage.instructions {
            let inner = self.findings.settings.with_comments(&instruction.comments);
            let outer = std::mem::replace(&mut self.findings.settings, inner);
            self.instruction(instruction, scope);
            let kind = match &instruction.value {
                Instruction::Cmd(_) => Some("CMD"),
                Instruction::Entrypoint(_) => Some("ENTRYPOINT"),
                Instruction::Healthcheck(_) => Some("HEALTHCHECK"),
                _ => None,
            };
            if let Some(span) = kind.and_then(|kind| last.insert(kind, instruction.span)) {
                let message = format!(
                    "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                    keyword(&instruction.text)
                );
                self.findings
                    .add(Rule::MultipleInstructionsDisallowed, span, message);
            }
            self.findings.settings = outer;
        }
    }

    fn instruction(&mut self, instruction: &Spanned<Instruction>, scope: &mut Scope) {
        let span = instruction.span;
        match &instruction.value {
            Instruction::Env(pairs) => self.env(pairs, instruction, scope),
            Instruction::Label(pairs) => {
                self.expand_pairs(pairs, span, scope);
                self.legacy(pairs, instruction);
            }
            Instruction::Arg(arg) => self.arg(arg, span, scope),
            Instruction::Copy(copy) => {
                self.expand_all(copy.chown.iter().chain(&copy.chmod), span, scope);
                let sources = self.expand_all(&copy.sources, span, scope);
                self.expand_all([&copy.destination], span, scope);
                let contents = copy.contents.iter().filter(|content| content.expand);
                contents.for_each(|content| self.expand_content(&content.data, span, scope));
                if copy.from.is_none() {
                    self.ignored("Copy", &sources, span);
                }
            }
            Instruction::Add(add) => {
                let flags = add.chown.iter().chain(&add.chmod).chain(&add.checksum);
                self.expand_all(flags, span, scope);
                let sources = self.expand_all(&add.sources, span, scope);
                self.expand_all([&add.destination], span, scope);
                let contents = add.contents.iter().filter(|content| content.expand);
                contents.for_each(|content| self.expand_content(&content.data, span, scope));
                let paths: Vec<String> =
                    sources.into_iter().filter(|s| !s.contains("://")).collect();
                self.ignored("Add", &paths, span);
            }
            Instruction::Run(run) => {
                let texts: Vec<String> = run.mounts.iter().map(|m| m.text().to_owned()).collect();
                self.expand_all(&texts, span, scope);
            }
            Instruction::Workdir(path) => self.workdir(path, span, scope),
            Instruction::User(word) | Instruction::StopSignal(word) => {
                self.expand_all([word], span, scope);
            }
            Instruction::Volume(words) => {
                self.expand_all(words, span, scope);
            }
            Instruction::Expose(ports) => self.expose(ports, span, scope),
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => {
                self.json(command, instruction, scope);
            }
            Instruction::Shell(shell) => scope.has_shell = !shell.is_empty(),
            Instruction::Healthcheck(check) => match &check.test {
                HealthcheckTest::None | HealthcheckTest::Cmd(_) => {}
            },
            Instruction::OnBuild(_) | Instruction::Maintainer(_) => {}
        }
    }

    /// Expands words; complains about what is not defined.
    fn expand_all<'w>(
        &mut self,
        words: impl IntoIterator<Item = &'w String>,
        span: Span,
        scope: &Scope,
    ) -> Vec<String> {
        let mut texts = Vec::new();
        for word in words {
            let Ok(expansion) = scope.expand(word, self.escape) else {
                continue;
            };
            self.undefined(&expansion, span, scope);
            texts.push(expansion.text);
        }
        texts
    }

    fn expand_content(&mut self, content: &str, span: Span, scope: &Scope) {
        let variable = |name: &str| scope.variables.get(name).cloned();
        if let Ok(expansion) = expand::expand_raw(content, &variable, '\\') {
            self.undefined(&expansion, span, scope);
        }
    }

    fn undefined(&mut self, expansion: &Expansion, span: Span, scope: &Scope) {
        for message in scope.complaints(&expansion.unset) {
            self.findings.add(Rule::UndefinedVar, span, message);
        }
    }

    fn expand_pairs(
        &mut self,
        pairs: &[KeyValue],
        span: Span,
        scope: &Scope,
    ) -> Vec<(String, String)> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let mut words = self
                .expand_all([&pair.key, &pair.value], span, scope)
                .into_iter();
            if let (Some(key), Some(value)) = (words.next(), words.next()) {
                expanded.push((key, value));
            }
        }
        expanded
    }

    fn env(&mut self, pairs: &[KeyValue], instruction: &Spanned<Instruction>, scope: &mut Scope) {
        let expanded = self.expand_pairs(pairs, instruction.span, scope);
        self.legacy(pairs, instruction);
        for (key, value) in expanded {
            self.secret("ENV", &key, instruction.span);
            scope.set(&key, value);
        }
    }

    fn legacy(&mut self, pairs: &[KeyValue], instruction: &Spanned<Instruction>) {
        let name = keyword(&instruction.text);
        for _ in pairs.iter().filter(|pair| pair.form == Form::Legacy) {
            let message = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            self.findings
                .add(Rule::LegacyKeyValueFormat, instruction.span, message);
        }
    }

    fn secret(&mut self, instruction: &str, name: &str, span: Span) {
        let lower = name.to_lowercase();
        let has = |words: &[&str]| lower.split('_').any(|word| words.contains(&word));
        if has(&SECRET) && !has(&NO_SECRET) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})"
            );
            self.findings
                .add(Rule::SecretsUsedInArgOrEnv, span, message);
        }
    }

    fn arg(&mut self, arg: &Arg, span: Span, scope: &mut Scope) {
        for definition in &arg.definitions {
            let name = &definition.name;
            self.secret("ARG", name, span);
            let given = self.options.build_args.get(name).cloned();
            let value = match (given, &definition.default) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => self.expand_all([default], span, scope).pop(),
                (None, None) => self.globals.variables.get(name).cloned(),
            };
            if let Some(value) = value {
                scope.set(name, value);
            }
            scope.declared.insert(name.clone());
        }
    }

    fn workdir(&mut self, path: &String, span: Span, scope: &mut Scope) {
        let expanded = self.expand_all([path], span, scope);
        let relative = expanded.iter().find(|path| !path.starts_with('/'));
        if let Some(path) = relative.filter(|_| !scope.has_workdir) {
            let message = format!(
                "Relative workdir {path:?} can have unexpected results if the base image changes"
            );
            self.findings.add(Rule::WorkdirRelativePath, span, message);
        }
        scope.has_workdir = true;
    }

    fn expose(&mut self, ports: &[String], span: Span, scope: &Scope) {
        let variable = |name: &str| scope.variables.get(name).cloned();
        for text in ports {
            for port in expand::words(text, &variable, self.escape).unwrap_or_default() {
                let parts = port::parts(&port);
                if parts.protocol != parts.protocol.to_lowercase() {
                    let message = format!(
                        "Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    );
                    self.findings.add(Rule::ExposeProtoCasing, span, message);
                }
                if !parts.address.is_empty() || !parts.host.is_empty() {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    );
                    self.findings.add(Rule::ExposeInvalidFormat, span, message);
                }
            }
        }
    }

    fn json(&mut self, command: &Command, instruction: &Spanned<Instruction>, scope: &Scope) {
        if matches!(command, Command::Shell(_)) && !scope.has_shell {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                keyword(&instruction.text)
            );
            self.findings
                .add(Rule::JsonArgsRecommended, instruction.span, message);
        }
    }

    /// Whether a directory is wholly excluded cannot be told where exceptions exist.
    fn ignored(&mut self, verb: &str, sources: &[String], span: Span) {
        let Some(ignore) = self
            .options
            .ignore
            .filter(|ignore| !ignore.has_exceptions())
        else {
            return;
        };
        for source in sources {
            let path = clean(source);
            let is_root = path == "." || path == "/";
            if is_root && !ignore.excludes_root() {
                continue;
            }
            if is_root || ignore.excludes(path.as_bytes()) {
                let message =
                    format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
                self.findings.add(Rule::CopyIgnoredFile, span, message);
            }
        }
    }
}
