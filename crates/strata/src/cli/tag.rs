//! `strata tag`.

use oci::Reference;
use store::StoreError;

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::Arguments;
use super::name;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["image tag", "tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    arity: Arity::Exactly(2),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let target = name::parse_tag(&arguments.positional[1])?;
    let store = session.store()?;
    let lock = store.lock_shared()?;
    let image = name::resolve(store, &arguments.positional[0])?;
    match store.tag(&target, &image.id, None) {
        // Removed since it was found.
        Err(StoreError::ImageNotFound(_)) => {
            name::resolve(store, &arguments.positional[0])?;
            drop(lock);
            return run(arguments, session);
        }
        tagged => tagged?,
    }
    if let Some(source) = image
        .tags
        .iter()
        .find(|tag| is_meant(tag, &arguments.positional[0]))
    {
        store.copy_tag_manifest(source, &target)?;
        store.copy_tag_document(source, &target)?;
    }
    drop(lock);
    Ok(Exit::SUCCESS)
}

/// Tells whether a tag is what was written, and not the image's id.
fn is_meant(tag: &Reference, written: &str) -> bool {
    name::parse(written).is_ok_and(|name| name.digest().is_none() && name.or_latest() == *tag)
}
