//! What a rule compares with: texts with a wildcard at either end, and blocks of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::model::identity::{DEFAULT_TRUST_DOMAIN, TrustDomain};

/// A text as a rule writes it. Istio's forms: exact, `prefix*`, `*suffix` and `*` for anything that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextPattern {
    /// `abc`
    Exact(Arc<str>),
    /// `abc*`
    Prefix(Arc<str>),
    /// `*abc`
    Suffix(Arc<str>),
    /// `*`
    Present,
}

/// An address or a block of addresses: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpBlock {
    base: IpAddr,
    length: u8,
}

/// Why a text is no pattern or block.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Nothing at all, which would match nothing.
    #[error("is empty: write \"*\" for any value that is there")]
    Empty,
    /// A `*` inside the text, or more than one.
    #[error("has a '*' in the wrong place: one '*' may begin or end it, as in \"abc*\" or \"*abc\", or be all of it")]
    Wildcard,
    /// Not an address.
    #[error("is not an IP address or block: write it as 10.0.0.1, 10.0.0.0/8 or fd00::/8")]
    Address,
    /// More bits than the address has.
    #[error("has an impossible prefix length: at most {0} for this address")]
    Length(u8),
}

impl TextPattern {
    /// Whether a value matches. What is not there matches nothing.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return false };
        match self {
            Self::Exact(text) => value == &**text,
            Self::Prefix(text) => value.starts_with(&**text),
            Self::Suffix(text) => value.ends_with(&**text),
            Self::Present => true,
        }
    }

    /// Of a principal: puts a trust domain in the place of `cluster.local`.
    pub(super) fn point_to(&mut self, trust_domain: &TrustDomain) {
        if let Self::Exact(text) | Self::Prefix(text) = self
            && let Some(rest) = text.strip_prefix(DEFAULT_TRUST_DOMAIN)
            && rest.starts_with('/')
        {
            *text = format!("{trust_domain}{rest}").into();
        }
    }
}

/// As rules write it.
impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
            Self::Present => f.write_str("*"),
        }
    }
}

/// As rules write it: an address where the block is just one.
impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)?;
        if self.length < if self.base.is_ipv4() { 32 } else { 128 } { write!(f, "/{}", self.length) } else { Ok(()) }
    }
}

impl FromStr for TextPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.matches('*').count() {
            0 if text.is_empty() => Err(PatternError::Empty),
            0 => Ok(Self::Exact(text.into())),
            1 if text == "*" => Ok(Self::Present),
            1 => match (text.strip_suffix('*'), text.strip_prefix('*')) {
                (Some(prefix), _) => Ok(Self::Prefix(prefix.into())),
                (None, Some(suffix)) => Ok(Self::Suffix(suffix.into())),
                (None, None) => Err(PatternError::Wildcard),
            },
            _ => Err(PatternError::Wildcard),
        }
    }
}

impl IpBlock {
    /// Whether an address is in the block. A v4-mapped IPv6 address counts as the IPv4 address in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.base.is_ipv4() && masked(ip, self.length) == self.base
    }
}

impl FromStr for IpBlock {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| PatternError::Address)?;
        let bits = if written.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(PatternError::Address);
            }
            Some(digits) => digits.parse().ok().filter(|n| *n <= bits).ok_or(PatternError::Length(bits))?,
        };
        let canonical = written.to_canonical();
        // A block that is wider than the v4-mapped range stays an IPv6 one.
        let (base, length) = match bits == 128 && canonical.is_ipv4() {
            true if length >= 96 => (canonical, length - 96),
            _ => (written, length),
        };
        Ok(Self { base: masked(base, length), length })
    }
}

fn masked(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}
