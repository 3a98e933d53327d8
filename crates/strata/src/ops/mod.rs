//! One operation for each command.

pub mod changes;
pub mod history;
pub mod image_filter;
pub mod import;
pub mod inspect;
pub mod layers;
pub mod load;
mod parallel;
pub mod pull;
pub mod push;
pub mod save;

use parallel::parallel_layers;
