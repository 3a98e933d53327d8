//! What helps when the disk is full.

use store::{Prune, PruneFilter, PruneScope, StepFilter, StepScope};
use strata::ops::image_filter::ImageFilter;
use strata::ops::prune::stopped;

use super::error::CommandError;
use super::session::Session;
use super::units;

/// Adds how much room there is, and how to get more.
pub(crate) fn hint(session: &Session, error: CommandError) -> CommandError {
    let program = session.program;
    // Without a store that opens there is nothing to tell, and the error is told all the same.
    let Some((free, [careful, all])) = room(session) else {
        return error.hint(format!("'{program} system prune' frees space"));
    };
    let free = units::precise_size(free);
    let root = session.environment.root.display();
    let error = error.hint(format!("`{root}` has {free} left, more is needed"));
    match (careful, all) {
        (0, 0) => error.hint(format!("'{program} system df' shows what takes the space")),
        (careful, all) => error.hint(format!(
            "'{program} system prune' frees {}, with -a {}",
            units::precise_size(careful),
            units::precise_size(all)
        )),
    }
}

/// Returns what is free, and what two prunes would free.
fn room(session: &Session) -> Option<(u64, [u64; 2])> {
    let store = session.store().ok()?;
    let free = store.available_space().ok()?;
    let frees = |images, steps| {
        let prune = Prune {
            containers: stopped(store, &ImageFilter::default(), None).ok()?,
            images: Some(PruneFilter {
                scope: images,
                ..PruneFilter::default()
            }),
            steps: Some(StepFilter {
                scope: steps,
                until: None,
            }),
            ..Prune::default()
        };
        Some(store.rehearse_prune(&prune).ok()?.swept.bytes)
    };
    let careful = frees(PruneScope::Dangling, StepScope::Unused)?;
    let all = frees(PruneScope::Unused, StepScope::All)?;
    Some((free, [careful, all]))
}
