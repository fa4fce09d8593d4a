//! Addresses in one normal form, so that a v4-mapped IPv6 address never hides an IPv4 one.

use std::net::SocketAddr;

/// The address itself, or the IPv4 address inside a v4-mapped IPv6 one.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
