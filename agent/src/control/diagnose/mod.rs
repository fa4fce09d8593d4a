//! Operators' questions to a running agent, and what its answers look like. Everything here is pure: the agent's side makes
//! answers from what it knows, the side of the command line shows them.

pub mod check;
pub mod connections;
pub mod dump;
pub mod explain;
pub mod profile;
pub mod show;
