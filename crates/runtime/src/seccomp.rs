//! Which system calls a container may make: docker's default profile, compiled for the kernel.
//!
//! The filter first looks at the processor mode of the call, then finds the call's number by
//! bisection over ranges of numbers with the same answer. The kernel evaluates a filter once for
//! every number when it is loaded, so a balanced tree is what makes loading cheap.

mod compile;
mod profile;

pub(crate) use compile::compile;
