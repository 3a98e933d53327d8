//! What tars become: mounted, seen through a view, and against GNU tar.

mod compare;
mod formats;
mod hostile;
mod stack;
mod written;
