//! Operators' questions to a running agent.

pub mod answer;
pub mod question;
pub mod text;

#[cfg(test)]
mod tests;
