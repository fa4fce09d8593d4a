//! Addresses in one normal form, so that a v4-mapped IPv6 address never hides an IPv4 one.

use std::net::{IpAddr, SocketAddr};

/// The address itself, or the IPv4 address inside a v4-mapped IPv6 one.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The wildcard address of the same family as `ip`.
#[must_use]
pub fn unspecified_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}
