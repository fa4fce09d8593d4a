//! "Would this connection work, and where would it stop?"

pub mod answer;
pub mod path;
pub mod question;
pub mod step;
pub mod text;

mod ends;

#[cfg(test)]
mod tests;
