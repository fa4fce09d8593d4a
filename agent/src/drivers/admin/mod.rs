//! The admin HTTP server, and a client for it. Roles register pages; it knows none of them.

pub mod client;
pub mod server;

mod guard;
mod page;
#[cfg(test)]
mod tests;
