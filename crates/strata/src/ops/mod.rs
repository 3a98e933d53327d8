//! One operation for each command.

pub mod base_images;
pub mod build_cache;
pub mod build_context;
pub mod build_log;
pub mod build_record;
pub mod changes;
pub mod commit;
pub mod container_filter;
pub mod copy;
pub mod create;
pub mod export;
pub mod files;
pub mod fsck;
pub mod git;
pub mod history;
pub mod image_build;
pub mod image_filter;
pub mod import;
pub mod inspect;
pub mod launch;
pub mod layers;
pub mod load;
pub mod login;
pub mod manifest_list;
mod parallel;
pub mod place;
pub mod prune;
pub mod pull;
pub mod push;
pub mod remove;
mod room;
pub mod save;
pub mod tidy;

use parallel::parallel_layers;
use room::{make_room, with_room};
