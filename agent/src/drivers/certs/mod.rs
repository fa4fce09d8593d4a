//! Keys, certificates and TLS configurations (rustls).
//!
//! ```text
//! keys ── CSR ──▶ authority (trait) ── chain, roots ──▶ credentials ◀── store: one per identity, renewed at half life
//!                     ▲                                      │
//!                  issuer (signs, for a local CA)            ▼
//!                                  handshake: accept, connect ── session: resolver + verify, one per handshake
//! ```
//!
//! The rest of the agent sees [`store::CertificateStore`], [`config`] and [`handshake`]; no type of rustls is needed to use them.

pub mod authority;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod handshake;
pub mod issuer;
pub mod keys;
mod renewal;
pub mod rotation;
mod session;
pub mod store;
pub mod verify;

#[cfg(test)]
mod tests;
