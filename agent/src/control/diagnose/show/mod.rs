//! Answers for people: tables, with colours where a terminal shows them.

pub mod check;
pub mod connections;
pub mod lists;
pub mod nodes;
pub mod status;
pub mod style;
pub mod table;

#[cfg(test)]
mod tests;
