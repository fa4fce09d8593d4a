//! Long runs of the whole thing, each a program of the tests that is built and started from here.

pub(crate) mod demo;
pub(crate) mod fuzz;
pub(crate) mod soak;
