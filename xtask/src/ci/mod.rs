//! What continuous integration checks.

mod deny;
pub(crate) mod steps;
