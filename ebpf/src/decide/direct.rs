//! Which connections go straight from pod to pod, and what they have carried in the end.

use super::tcp;
use crate::abi::{Address, PodAddresses};

/// Which of `count` endpoints a connection goes to; each with the same chance, as far as `random` gives it.
#[inline(always)]
#[must_use]
pub const fn pick(random: u32, count: u32) -> u32 {
    ((random as u64 * count as u64) >> 32) as u32
}

/// Whether a socket that was bound to `source` before it connects speaks from the pod's own address. One that is not bound does:
/// the pod has one address per family.
#[inline(always)]
#[must_use]
pub fn speaks_for_itself(source: Address, destination: Address, pod: &PodAddresses) -> bool {
    let own = if destination.v4_word().is_some() { pod.address_v4() } else { pod.address_v6() };
    let unbound = source.0[0] == 0 && source.0[1] == 0 && source.0[3] == 0;
    unbound || own == Some(source)
}

/// Bytes of the application that a connection has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// From this side, as far as the other has acknowledged them.
    pub sent: u64,
    /// From the other side.
    pub received: u64,
}

/// What a client's socket has carried when it closes from TCP state `old`. `acknowledged` and `received` are the kernel's numbers
/// (RFC 4898), in which this side's SYN, and the FIN of either, count as a byte each.
///
/// A socket that leaves FIN-WAIT-2 may or may not have seen the other side's FIN: the kernel goes on without a socket where the
/// application is gone. What was received after that state was entered (`received_at_end`) has a FIN at its end if there is any.
#[inline(always)]
#[must_use]
pub const fn totals(acknowledged: u64, received: u64, received_at_end: u64, old: u32) -> Totals {
    let own_fin = matches!(old, tcp::FIN_WAIT_2 | tcp::CLOSING | tcp::LAST_ACK);
    let their_fin = match old {
        tcp::CLOSE_WAIT | tcp::CLOSING | tcp::LAST_ACK => true,
        tcp::FIN_WAIT_2 => received > received_at_end,
        _ => false,
    };
    Totals {
        sent: acknowledged.saturating_sub(1 + own_fin as u64),
        received: received.saturating_sub(their_fin as u64),
    }
}

/// Whether an established connection that closes from TCP state `old` was ended by one of its sides, not broken off.
#[inline(always)]
#[must_use]
pub const fn ended_in_order(old: u32) -> bool {
    matches!(old, tcp::FIN_WAIT_2 | tcp::CLOSING | tcp::LAST_ACK)
}
