//! The `traceparent` header (W3C Trace Context): one random number that ties both nodes' log lines together.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Version 00 of the header: `00-<trace id, 32 hex>-<parent id, 16 hex>-<flags, 2 hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent {
    trace: u128,
    parent: u64,
    flags: u8,
}

/// The text is not a trace parent of version 00 with ids other than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a W3C traceparent of version 00")]
pub struct TraceparentError;

impl Traceparent {
    /// Makes an unsampled trace parent of random numbers; a zero, which the specification forbids, becomes a one.
    #[must_use]
    pub fn new(trace: u128, parent: u64) -> Self {
        Self { trace: trace.max(1), parent: parent.max(1), flags: 0 }
    }

    /// The id that both ends of the connection share.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.trace
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }
}

impl FromStr for Traceparent {
    type Err = TraceparentError;

    fn from_str(text: &str) -> Result<Self, TraceparentError> {
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if text.len() != 55 || !text.bytes().all(lower_hex) {
            return Err(TraceparentError);
        }
        let parts: Vec<&str> = text.split('-').collect();
        let &["00", trace, parent, flags] = parts.as_slice() else { return Err(TraceparentError) };
        if (trace.len(), parent.len(), flags.len()) != (32, 16, 2) {
            return Err(TraceparentError);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| TraceparentError)?;
        let parent = u64::from_str_radix(parent, 16).map_err(|_| TraceparentError)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| TraceparentError)?;
        if trace == 0 || parent == 0 {
            return Err(TraceparentError);
        }
        Ok(Self { trace, parent, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        let parsed = text.parse::<Traceparent>();
        assert_eq!(parsed.map(|p| p.to_string()).ok().as_deref(), valid.then_some(text), "{text:?}");
    }

    #[test]
    fn only_version_00_is_read() {
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true);
        check(&Traceparent::new(7, 9).to_string(), true);
        check(&Traceparent::new(0, 0).to_string(), true);
        check("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false);
        check("00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false);
        check("", false);
    }
}
