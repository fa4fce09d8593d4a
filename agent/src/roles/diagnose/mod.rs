//! Operators' commands: they ask a running agent, or look at the machine, and print what they find.

pub mod ask;
pub mod check;
pub mod connections;
pub mod lists;
pub mod log_level;
pub mod nodes;
pub mod output;
pub mod profile;
pub mod run;
