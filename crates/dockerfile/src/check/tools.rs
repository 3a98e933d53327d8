//! The programs that install what others made, and which files of a context they need for it.

/// A command that installs something and takes its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Install {
    /// The command as it is named in messages.
    pub(super) shown: String,
    /// What it needs.
    pub(super) need: Need,
}

/// What an [`Install`] needs of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// These files.
    Manifests(String),
    /// Everything; but what it fetches can be kept in this directory.
    Everything {
        /// Where it keeps what it fetched.
        cache: &'static str,
    },
}

/// A command, cut.
struct Command<'a> {
    program: &'a str,
    verb: &'a str,
    /// What follows the verb and is no flag.
    operands: Vec<&'a str>,
    words: &'a [String],
}

impl Command<'_> {
    fn has(&self, flags: &[&str]) -> bool {
        self.words.iter().any(|word| {
            let flag = word.split('=').next().unwrap_or_default();
            flags.contains(&flag)
        })
    }

    /// Tells whether an operand is a file, or something that the shell has to find out.
    fn names_files(&self) -> bool {
        let is_file = |word: &String| {
            word.starts_with(['.', '/', '<']) || word.contains(['$', '`']) || word.contains("://")
        };
        self.words.iter().skip(1).any(is_file)
    }
}

/// Recognises a command that installs something.
pub(super) fn install(words: &[String]) -> Option<Install> {
    let words = match words {
        [program, flag, module, ..]
            if program.starts_with("python") && flag == "-m" && module == "pip" =>
        {
            &words[2..]
        }
        [program, module, ..] if program == "uv" && module == "pip" => &words[1..],
        _ => words,
    };
    let command = cut(words)?;
    let need = need(&command)?;
    let shown = format!("{} {}", command.program, command.verb);
    Some(Install {
        shown: shown.trim_end().to_owned(),
        need,
    })
}

fn cut(words: &[String]) -> Option<Command<'_>> {
    let (program, rest) = words.split_first()?;
    let mut operands = rest
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'));
    Some(Command {
        program: program.rsplit('/').next()?,
        verb: operands.next().unwrap_or_default(),
        operands: operands.collect(),
        words,
    })
}

fn need(command: &Command<'_>) -> Option<Need> {
    let manifests = |files: &str| Some(Need::Manifests(files.to_owned()));
    let alone = command.operands.is_empty();
    match (command.program, command.verb) {
        ("npm" | "yarn" | "pnpm" | "bun", _)
            if command.has(&["-g", "--global", "--prefix", "-C", "--dir", "--cwd"]) =>
        {
            None
        }
        ("npm", "ci") => manifests("package.json and package-lock.json"),
        ("npm", "install" | "i") if alone => manifests("package.json and package-lock.json"),
        ("yarn", "install" | "") if alone && !command.has(&["--version", "-v"]) => {
            manifests("package.json and yarn.lock")
        }
        ("pnpm", "install" | "i") if alone => manifests("package.json and pnpm-lock.yaml"),
        ("bun", "install" | "i") if alone => manifests("package.json and bun.lock"),
        ("pipenv", "install" | "sync") if alone => manifests("Pipfile and Pipfile.lock"),
        ("poetry", "install") if command.has(&["--no-root"]) => {
            manifests("pyproject.toml and poetry.lock")
        }
        ("uv", "sync") if command.has(&["--no-install-project"]) => {
            manifests("pyproject.toml and uv.lock")
        }
        ("bundle", "install") => manifests("Gemfile and Gemfile.lock"),
        ("composer", "install") if command.has(&["--no-scripts"]) => {
            manifests("composer.json and composer.lock")
        }
        ("composer", "install") => manifests(
            "composer.json and composer.lock (with `--no-scripts --no-autoloader`, and \
             `composer dump-autoload` behind the rest)",
        ),
        ("go", "mod") if command.operands.first() == Some(&"download") => {
            manifests("go.mod and go.sum")
        }
        ("dotnet", "restore") => manifests("the project files, such as *.csproj"),
        ("mix", "deps.get") => manifests("mix.exs and mix.lock"),
        ("mvn" | "mvnw", goal) if goal.starts_with("dependency:") => manifests("pom.xml"),
        ("mvn" | "mvnw", _) if names_one(command, &["package", "install", "verify", "compile"]) => {
            Some(Need::Everything { cache: "/root/.m2" })
        }
        ("gradle" | "gradlew", _)
            if names_one(
                command,
                &["build", "assemble", "bootJar", "shadowJar", "installDist"],
            ) =>
        {
            Some(Need::Everything {
                cache: "/root/.gradle",
            })
        }
        ("cargo", "install") if !command.has(&["--path"]) => Some(Need::Nothing),
        ("cargo", "build" | "b" | "install" | "test" | "fetch") => Some(Need::Everything {
            cache: "/usr/local/cargo/registry",
        }),
        (program, "install") if program.starts_with("pip") => pip(command),
        ("apt-get" | "apt" | "aptitude" | "yum" | "dnf" | "microdnf" | "zypper", "install")
        | ("apk", "add")
            if !alone && !command.names_files() =>
        {
            Some(Need::Nothing)
        }
        _ => None,
    }
}

fn names_one(command: &Command<'_>, verbs: &[&str]) -> bool {
    verbs.contains(&command.verb) || command.operands.iter().any(|word| verbs.contains(word))
}

/// `pip install -r FILE`, but nothing that lies in the context.
fn pip(command: &Command<'_>) -> Option<Need> {
    let mut files = Vec::new();
    let mut words = command.words.iter().map(String::as_str).skip(1);
    while let Some(word) = words.next() {
        match word {
            "-r" | "--requirement" | "-c" | "--constraint" => files.extend(words.next()),
            "-e" | "--editable" => return None,
            _ if word.starts_with(['.', '/']) => return None,
            _ => {
                let glued = word
                    .strip_prefix("-r")
                    .or(word.strip_prefix("--requirement="));
                files.extend(glued.filter(|file| !file.is_empty()));
            }
        }
    }
    let is_plain = |file: &&str| !file.contains(['$', '`']);
    (!files.is_empty() && files.iter().all(is_plain)).then(|| Need::Manifests(files.join(" and ")))
}

/// A package manager with an index that it does not fetch by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    Apt,
    Apk,
}

/// What a command does with an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IndexUse {
    /// It is fetched.
    Update(Index),
    /// It is used by this command.
    Install(Index, String),
    /// It is removed.
    Remove(Index),
}

/// The directory of apt's index.
const APT_LISTS: &str = "/var/lib/apt/lists";

/// Recognises a command that has to do with an index.
pub(super) fn index_use(words: &[String]) -> Option<IndexUse> {
    let command = cut(words)?;
    let install = |index| {
        let shown = format!("{} {}", command.program, command.verb);
        (!command.names_files()).then_some(IndexUse::Install(index, shown))
    };
    match (command.program, command.verb) {
        ("apt-get" | "apt" | "aptitude", "update") => Some(IndexUse::Update(Index::Apt)),
        (
            "apt-get" | "apt" | "aptitude",
            "install" | "upgrade" | "dist-upgrade" | "full-upgrade",
        ) => install(Index::Apt),
        ("apk", "update") => Some(IndexUse::Update(Index::Apk)),
        ("apk", "add" | "upgrade")
            if command.has(&["--no-cache", "-U", "--update", "--update-cache"]) =>
        {
            None
        }
        ("apk", "add" | "upgrade") => install(Index::Apk),
        ("rm", _) if words.iter().any(|word| word.starts_with(APT_LISTS)) => {
            Some(IndexUse::Remove(Index::Apt))
        }
        ("rm", _) if words.iter().any(|word| word.starts_with("/var/cache/apk")) => {
            Some(IndexUse::Remove(Index::Apk))
        }
        _ => None,
    }
}
