//! `cargo xtask test`: the tiers, what each needs, and one line that sums them up.

pub(crate) mod machine;
pub(crate) mod runner;
mod stage;
mod tier;
mod totals;

pub(crate) use totals::Totals;
