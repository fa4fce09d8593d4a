//! `cargo xtask bench`: sets up what the comparison needs, runs it, and makes tables and charts of what it measured.

mod bars;
mod chart;
pub(crate) mod command;
mod figures;
mod html;
mod machine;
mod results;
mod table;
mod tools;
