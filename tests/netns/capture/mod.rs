//! What is captured: the usual connections, and all others.

mod around;
mod usual;
