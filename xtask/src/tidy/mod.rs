//! `cargo xtask tidy`: the rules that no compiler and no linter checks.

mod budgets;
mod documents;
mod finding;
mod hygiene;
mod layers;
mod paths;
pub(crate) mod report;
mod source;
