//! `strata pull`.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use oci::{Platform, Reference};
use store::Event;
use strata::Engine;
use strata::ops::pull::{Freshness, PullError, Pulled, pull, pull_all_platforms, tags};

use super::background;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::name;
use super::output::Channel;
use super::progress::{Direction, Transfer};
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["image pull", "pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    flags: &[
        Flag::switch("all-tags", "Download all tagged images in the repository").short('a'),
        Flag::switch(
            "all-platforms",
            "Download the images of all platforms and keep the index, to be pushed whole",
        ),
        Flag::switched_on("disable-content-trust", "Skip image verification"),
        Flag::one(
            "platform",
            "string",
            "Set platform if server is multi-platform capable",
        ),
        Flag::switch("quiet", "Suppress verbose output").short('q'),
    ],
    arity: Arity::Exactly(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let given = name::parse(&arguments.positional[0])?;
    let asked = name::platform(arguments.text("platform"), session)?;
    let platform = asked.clone().unwrap_or_else(Platform::host);
    let is_quiet = arguments.is_on("quiet");
    let all_platforms = arguments.is_on("all-platforms");
    if all_platforms && arguments.text("platform").is_some() {
        return Err(CommandError::client(
            "conflicting options: --all-platforms and --platform",
        ));
    }
    if all_platforms && given.digest().is_some() {
        return Err(CommandError::client(
            "--all-platforms needs a tag: an index that is kept is known by its tag",
        ));
    }
    let fetch = match all_platforms {
        true => pull_all_platforms,
        false => pull,
    };
    let wanted = Pull {
        platform: &platform,
        fetch,
        is_quiet,
    };
    if arguments.is_on("all-tags") {
        return pull_all(&given, &wanted, session);
    }
    let name = given.clone().or_latest();
    if name != given && !is_quiet {
        session.out.line("Using default tag: latest")?;
    }
    let pulled = wanted.one(&name, Channel::Stdout, session)?;
    if is_quiet {
        session.out.line(&name.to_string())?;
    } else {
        session.out.data(&result(&pulled, &name, &name))?;
        if let (Some(found), Some(_)) = (&pulled.other_platform, &asked) {
            session
                .out
                .line(&other_platform(&name.familiar(), found, &platform))?;
        }
        session.out.line(&name.to_string())?;
    }
    background::tidy(session);
    Ok(Exit::SUCCESS)
}

/// The operation that fetches: the image of one platform or those of all.
type Fetch =
    fn(&Engine, &Reference, &Platform, &(dyn Fn(Event) + Sync)) -> Result<Pulled, PullError>;

/// How to pull.
struct Pull<'a> {
    platform: &'a Platform,
    fetch: Fetch,
    is_quiet: bool,
}

fn pull_all(
    repository: &Reference,
    wanted: &Pull<'_>,
    session: &mut Session,
) -> Result<Exit, CommandError> {
    if repository.tag().is_some() || repository.digest().is_some() {
        return Err(CommandError::client("tag can't be used with --all-tags/-a"));
    }
    let mut last = String::new();
    for tag in tags(session.engine()?, repository)? {
        let name = repository.with_tag(&tag)?;
        let pulled = wanted.one(&name, Channel::Stdout, session)?;
        let text = result(&pulled, &name, repository);
        let (digest, status) = text.split_once('\n').unwrap_or((&text, ""));
        if !wanted.is_quiet {
            session.out.line(digest)?;
        }
        status.clone_into(&mut last);
    }
    if !wanted.is_quiet {
        session.out.data(&last)?;
    }
    session.out.line(&repository.to_string())?;
    background::tidy(session);
    Ok(Exit::SUCCESS)
}

/// `Digest: …` and `Status: …`, which names `shown`.
fn result(pulled: &Pulled, name: &Reference, shown: &Reference) -> String {
    let status = match pulled.freshness {
        Freshness::UpToDate => "Image is up to date for",
        Freshness::Newer => "Downloaded newer image for",
    };
    let digest = name.digest().unwrap_or(&pulled.copied.named.digest);
    format!("Digest: {digest}\nStatus: {status} {}\n", shown.familiar())
}

/// Returns the warning that an image is for another platform than the wanted one.
pub(crate) fn other_platform(name: &dyn Display, found: &Platform, wanted: &Platform) -> String {
    format!(
        "WARNING: image with reference {name} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )
}

/// Pulls the image that `name` names for `platform` and shows what happens on `channel`, unless
/// told to be quiet.
pub(crate) fn pull_with_progress(
    name: &Reference,
    platform: &Platform,
    is_quiet: bool,
    channel: Channel,
    session: &Session,
) -> Result<Pulled, CommandError> {
    let wanted = Pull {
        platform,
        fetch: pull,
        is_quiet,
    };
    wanted.one(name, channel, session)
}

impl Pull<'_> {
    fn one(
        &self,
        name: &Reference,
        channel: Channel,
        session: &Session,
    ) -> Result<Pulled, CommandError> {
        let engine = session.engine()?;
        if self.is_quiet {
            return Ok((self.fetch)(engine, name, self.platform, &|_| {})?);
        }
        let what = match (name.tag(), name.digest()) {
            (_, Some(digest)) => digest.to_string(),
            (tag, None) => tag.unwrap_or_default().to_owned(),
        };
        let heading = format!("{what}: Pulling from {}", name.path());
        let transfer = Transfer::new(Direction::Pull, Some(heading), channel.columns());
        let transfer = Mutex::new(transfer);
        Ok((self.fetch)(engine, name, self.platform, &|event| {
            show(&transfer, &event, channel);
        })?)
    }
}

/// Writes what `event` tells. Events come from several threads; the lock keeps lines whole.
pub(crate) fn show(transfer: &Mutex<Transfer>, event: &Event, channel: Channel) {
    let mut transfer = transfer.lock().unwrap_or_else(PoisonError::into_inner);
    let text = transfer.text(event);
    if !text.is_empty() {
        channel.write(&text);
    }
}
