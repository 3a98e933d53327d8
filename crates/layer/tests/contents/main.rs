//! What tars become: mounted, seen through a view, and against GNU tar.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod compare;
mod formats;
mod hostile;
mod stack;
mod verified;
mod written;
