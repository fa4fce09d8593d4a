//! What is told of one connection: its metrics, and one line of access log when it ends.

mod connection;
mod line;
mod open;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Protocol};
pub use open::{Open, Record, count_open, each_open, keep_reporting, look_at_open};
