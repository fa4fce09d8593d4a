//! TCP states, as in the kernel's `tcp_states.h`.

/// The client waits for an answer.
pub const SYN_SENT: u32 = 2;
/// This side has ended, and the other has not acknowledged it.
pub const FIN_WAIT_1: u32 = 4;
/// This side has ended, and the other has acknowledged it.
pub const FIN_WAIT_2: u32 = 5;
/// Both have ended, the other first or alone.
pub const CLOSE_WAIT: u32 = 8;
/// Both have ended, the other first; its acknowledgement is awaited.
pub const LAST_ACK: u32 = 9;
/// Both have ended at once.
pub const CLOSING: u32 = 11;
