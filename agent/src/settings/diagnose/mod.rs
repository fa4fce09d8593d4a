//! Operators' commands: their flags, and what they ask for.

pub mod args;
pub mod task;
pub mod texts;
