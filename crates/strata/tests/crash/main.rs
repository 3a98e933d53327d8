//! What the store promises when commands are killed, crowd, or lose their power: docs/crash-safety.md.
//!
//! Each test runs a short version. `cargo xtask crash` runs the long ones: it sets the variables
//! that [`length`] reads.

mod background;
mod crowd;
mod disk;
mod interrupts;
mod kills;
mod ledger;
mod length;
mod power;
mod stage;
