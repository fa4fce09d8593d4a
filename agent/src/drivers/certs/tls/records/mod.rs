//! What comes after the handshake: TLS 1.3 records (RFC 8446, section 5), sealed and opened in place.
//!
//! rustls makes the handshake and keeps the key schedule; from then on records are ours, since its own record layer copies each
//! of them twice and reads 4 KiB at a time, which is a third of the cost of a byte through the agent.
//!
//! ```text
//! Batch: plain text ── seal in place ──▶ one send         one receive ──▶ open in place: plain text ── pieces ──▶
//!                         ▲ keys                                            ▲ keys
//!                         └──────── KeyUpdate, when a key has been used often enough or the peer asks ────────┘
//! ```

mod cipher;
mod connection;
mod messages;
mod stream;

pub use connection::RecordConnection;
pub use stream::RecordStream;

pub(super) use connection::{Established, KeySchedule};
pub(super) use messages::RecordError;
