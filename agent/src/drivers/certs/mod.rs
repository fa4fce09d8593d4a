//! Keys, certificates and TLS configurations (rustls).
//!
//! ```text
//! keys ── CSR ──▶ authority (trait) ── chain, roots ──▶ credentials ◀── store: one per identity, renewed at half life
//!                     ▲                                      │
//!                  ca (signs, for a local authority)         ▼
//!                                  tls: accept, connect ── one session per handshake: our certificate, verify for the peer's
//! ```
//!
//! The rest of the agent sees [`store::CertificateStore`], [`tls::config`] and [`tls::handshake`]; no type of rustls is
//! needed to use them. Who implements [`authority::Authority`] may use [`ca`].

pub mod authority;
pub mod ca;
mod certificate;
pub mod clock;
pub mod credentials;
pub mod keys;
mod provider;
mod renewal;
mod rotation;
pub mod store;
pub mod tls;
pub mod verify;

#[cfg(test)]
mod tests;
