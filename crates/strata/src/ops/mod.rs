//! One operation for each command.

pub mod history;
pub mod image_filter;
pub mod inspect;
