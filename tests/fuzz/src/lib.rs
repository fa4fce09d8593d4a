//! What is thrown at everything that reads bytes from the network or a file, and what must hold for any such bytes.
//!
//! A [`Target`] is a function of bytes that panics when a promise is broken; its seeds are where mutation starts. The
//! same functions run under libFuzzer (`cargo xtask fuzz`) and, for a second each, in every `cargo test` (`smoke.rs`).
//! Files in `seeds/<target>/` are inputs that once broke something: they run first.

mod ca;
mod call;
mod certs;
mod cni;
mod der;
mod http2;
mod manifests;
pub mod mutate;
mod redirect;
mod target;
mod text;
mod tunnel;

pub use target::{Target, run};
