//! Addresses that servers of tests listen at, without one getting into another's way.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// An address of loopback for one server: on 127.0.0.1 a port may be another's between the moment it was found free and
/// the moment the server has it, and two API servers would share a store.
pub(super) fn own_loopback() -> IpAddr {
    let [a, b, c, ..] = RandomState::new().hash_one(0).to_le_bytes();
    Ipv4Addr::new(127, 1 + a % 254, b, 1 + c % 254).into()
}

/// A port of this address that nobody has at the moment.
///
/// # Panics
/// When there is none.
pub(super) fn free(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}
