//! What continuous integration checks.

mod deny;
pub(crate) mod instructions;
pub(crate) mod steps;
