//! Whether a connection is captured, and who takes one that arrives.

use super::tcp;
use crate::abi::{Address, HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT, PodAddresses, Role};

/// What becomes of an application's connect() in an enrolled pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// It goes where it wants; what an earlier attempt on the same socket left behind is void.
    LeaveAlone,
    /// It was rewritten already, by the same program attached a second time while one agent replaces another.
    AlreadyCaptured,
    /// It goes to this address of the pod, port [`OUTBOUND_PORT`].
    Capture(Address),
    /// It fails: the pod has no address of that family, so it cannot be captured, and it must not leave as it is.
    Refuse,
}

/// Decides about a connect() to `destination`, `port`.
///
/// Left alone is what cannot be another workload: loopback, the unspecified address (the kernel reads it as loopback),
/// the pod's own addresses, link-local (the cloud's metadata service lives there) and multicast.
#[inline(always)]
#[must_use]
pub fn outbound(destination: Address, port: u16, pod: &PodAddresses) -> Outbound {
    let own = if destination.v4_word().is_some() { pod.address_v4() } else { pod.address_v6() };
    if own == Some(destination) {
        return if port == OUTBOUND_PORT { Outbound::AlreadyCaptured } else { Outbound::LeaveAlone };
    }
    if stays_here(destination) {
        return Outbound::LeaveAlone;
    }
    own.map_or(Outbound::Refuse, Outbound::Capture)
}

/// Whether an address is loopback, unspecified, link-local or multicast.
#[inline(always)]
fn stays_here(address: Address) -> bool {
    if let Some(word) = address.v4_word() {
        let v4 = u32::from_be(word);
        return v4 == 0
            || v4 >> 24 == 127
            || v4 >> 16 == 0xa9fe // 169.254.0.0/16
            || v4 >> 28 == 0xe // 224.0.0.0/4
            || v4 == u32::MAX;
    }
    let first = u32::from_be(address.0[0]);
    let leading_zeroes = address.0[0] == 0 && address.0[1] == 0 && address.0[2] == 0;
    first >> 24 == 0xff // ff00::/8
        || first >> 22 == 0xfe80 >> 6 // fe80::/10
        || leading_zeroes && u32::from_be(address.0[3]) <= 1 // :: and ::1
}

/// What becomes of a connection that arrives in a pod's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// It goes to one of the agent's listeners.
    Listener(Role),
    /// It goes to whoever listens in the pod.
    Application,
    /// It is refused.
    Refuse,
}

/// Decides about a connection to `local_port`.
#[inline(always)]
#[must_use]
pub fn inbound(local_port: u16, from_inside: bool) -> Inbound {
    match (local_port, from_inside) {
        (HBONE_PORT, _) => Inbound::Listener(Role::Hbone),
        (OUTBOUND_PORT, true) => Inbound::Listener(Role::Outbound),
        (OUTBOUND_PORT, false) | (PLAINTEXT_PORT, _) => Inbound::Refuse,
        (_, true) => Inbound::Application,
        (_, false) => Inbound::Listener(Role::Plaintext),
    }
}

/// Whether a connection comes from the pod itself.
///
/// The device alone does not say: what a pod sends to its own address crosses `lo`, but the kernel reports the device
/// that the address is on. So does the source: the kernel takes no packet from outside that claims a loopback address,
/// nor (IPv4) one of the pod's own; with IPv6 such a claim gains nothing, since the answer stays in the pod.
#[inline(always)]
#[must_use]
pub fn from_inside(arrived_on_loopback: bool, local: Address, remote: Address) -> bool {
    arrived_on_loopback || remote == local || is_loopback(remote)
}

#[inline(always)]
fn is_loopback(address: Address) -> bool {
    match address.v4_word() {
        Some(word) => u32::from_be(word) >> 24 == 127,
        None => address.0[0] == 0 && address.0[1] == 0 && address.0[2] == 0 && u32::from_be(address.0[3]) == 1,
    }
}

/// Whether the entry about a captured socket goes away when the socket closes, coming from TCP state `old` (numbers as
/// in the kernel's `tcp_states.h`).
///
/// It stays after FIN-WAIT-1, FIN-WAIT-2 and CLOSING: an application that connects, writes and closes at once leaves
/// a connection behind that the agent has yet to accept, and its data must still arrive.
#[inline(always)]
#[must_use]
pub fn forget_when_closed(old: u32) -> bool {
    !matches!(old, tcp::FIN_WAIT_1 | tcp::FIN_WAIT_2 | tcp::CLOSING)
}
