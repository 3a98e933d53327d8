//! `strata builder prune`.

use store::{StepFilter, StepScope};
use strata::ops::image_filter::FilterError;
use strata::time;

use super::background;
use super::command::Command;
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["builder prune"],
    about: "Remove build cache",
    flags: &[
        Flag::switch("all", "Remove all build cache, not just what no image has").short('a'),
        Flag::many(
            "filter",
            "filter",
            "Provide filter values (e.g. \"until=24h\")",
        ),
        Flag::switch("force", "Do not prompt for confirmation").short('f'),
    ],
    refused: &["keep-storage"],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let mut filter = StepFilter {
        scope: match arguments.is_on("all") {
            true => StepScope::All,
            false => StepScope::Unused,
        },
        until: None,
    };
    for text in arguments.all("filter") {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name != "until" {
            return Err(FilterError::Unknown(name.to_owned()).into());
        }
        let until = time::parse(value, units::now());
        let until = until.ok_or_else(|| FilterError::InvalidValue {
            name: name.to_owned(),
            value: value.to_owned(),
        })?;
        filter.until = Some(until.into());
    }
    let what = match filter.scope {
        StepScope::All => "all build cache",
        StepScope::Unused => "all dangling build cache",
    };
    if !arguments.is_on("force")
        && !confirm(session, &format!("WARNING! This will remove {what}."))?
    {
        return Ok(Exit::SUCCESS);
    }
    let pruned = session.store()?.prune_steps(&filter)?;
    let mut text = String::new();
    if !pruned.steps.is_empty() {
        text.push_str("ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n");
    }
    let now = units::now();
    for step in &pruned.steps {
        let used = jiff::Timestamp::from_nanosecond(i128::from(step.last_used.0));
        let used = used.map_or_else(|_| String::new(), |used| units::age(used, now) + " ago");
        text.push_str(&format!(
            "{:<40}\ttrue \t\t{:<10}\t{used}\n",
            &step.key.hex()[..25],
            units::precise_size(step.content_size)
        ));
    }
    let total = units::precise_size(pruned.swept.bytes);
    text.push_str(&format!("Total:\t{total}\n"));
    session.out.data(&text)?;
    background::unmount(session, &pruned.swept.layers);
    background::tidy(session);
    Ok(Exit::SUCCESS)
}
