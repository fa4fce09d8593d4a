//! The admin HTTP server. Roles register pages; it knows none of them.

pub mod server;
