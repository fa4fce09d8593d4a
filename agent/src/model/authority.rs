//! Where an HBONE request wants to go: `ip:port`, `[v6]:port` or `host:port`, read strictly.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::address;

/// The longest DNS name, in bytes of its text form (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// The longest label of a DNS name (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// The target of a CONNECT request (RFC 9113, section 8.5: the `:authority` of a CONNECT always has a port).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// An address in canonical form: a v4-mapped IPv6 address has become IPv4.
    Address(SocketAddr),
    /// A DNS name in lower case, and a port.
    Host(Arc<str>, u16),
}

/// Why a text is not an authority.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// There is no `:port` at the end, or it is not a number from 1 to 65535.
    #[error("authority {0:?} must end in a port from 1 to 65535")]
    Port(String),
    /// Neither an address nor a DNS name.
    #[error("authority {0:?} names neither an IPv4 address, an IPv6 address in brackets nor a DNS name")]
    Host(String),
}

impl Authority {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Host(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for Authority {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address::canonical(address))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Authority {
    type Err = AuthorityError;

    /// Reads an authority. No user information, no zone, no sign or leading zero in the port, no trailing dot; a name
    /// whose last label is all digits is refused, because some resolvers take it for an address.
    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AuthorityError::Port(shorten(text)))?;
        let port = parse_port(port).ok_or_else(|| AuthorityError::Port(shorten(text)))?;
        let bad_host = || AuthorityError::Host(shorten(text));
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(bad_host)?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| bad_host())?;
            return Ok(SocketAddr::new(ip.into(), port).into());
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Ok(SocketAddr::new(IpAddr::V4(ip), port).into());
        }
        if !is_dns_name(host) {
            return Err(bad_host());
        }
        Ok(Self::Host(host.to_ascii_lowercase().into(), port))
    }
}

fn parse_port(text: &str) -> Option<u16> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Letters, digits, `-` and `_` in labels of 1 to 63; Kubernetes and service discovery use `_` although host names may not.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(allowed)
    };
    let numeric = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    name.len() <= MAX_HOST && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(numeric)
}

/// Keeps what a hostile peer sent from flooding a log line.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let parsed = text.parse::<Authority>();
        assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{text:?}: {parsed:?}");
    }

    #[test]
    fn addresses_and_names_are_told_apart() {
        check("10.0.0.1:80", Some("10.0.0.1:80"));
        check("[fd00::1]:65535", Some("[fd00::1]:65535"));
        check("[::ffff:10.0.0.1]:80", Some("10.0.0.1:80"));
        check("Web.Demo.svc.cluster.local:8080", Some("web.demo.svc.cluster.local:8080"));
        check("localhost:1", Some("localhost:1"));
        check("_grpc.x:1", Some("_grpc.x:1"));
        assert!(matches!("web:80".parse(), Ok(Authority::Host(_, 80))));
        assert!(matches!("10.0.0.1:80".parse(), Ok(Authority::Address(_))));
    }

    #[test]
    fn everything_doubtful_is_refused() {
        let long_name = format!("{}:80", vec!["abcdefgh"; 40].join("."));
        let long_label = format!("{}:80", "a".repeat(64));
        for text in [
            "",
            ":",
            ":80",
            "10.0.0.1",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:080",
            "10.0.0.1:+80",
            "10.0.0.1:65536",
            "10.0.0.1:80 ",
            " 10.0.0.1:80",
            "user@10.0.0.1:80",
            "10.0.0.256:80",
            "010.0.0.1:80",
            "10.1:80",
            "0x7f.1:80",
            "fd00::1:80",
            "[fd00::1]",
            "[fd00::1:80",
            "fd00::1]:80",
            "[fe80::1%eth0]:80",
            "[10.0.0.1]:80",
            "[]:80",
            "web.:80",
            ".web:80",
            "a..b:80",
            "web/x:80",
            "wéb:80",
            "http://web:80",
            "a:b:80",
            &long_name,
            &long_label,
        ] {
            check(text, None);
        }
    }
}
