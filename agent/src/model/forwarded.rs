//! The `forwarded` header of an HBONE request (RFC 7239): the original client, and the service that it asked for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::address;

/// Headers longer than this are ignored, in bytes.
const MAX_HEADER: usize = 2 * 1024;

/// Longer host names are ignored: a DNS name, a colon and a port, in bytes.
const MAX_HOST: usize = 260;

/// `for="ip:port";host=name` as ztunnel writes it. Written by the node of the peer: as true as that node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The original client, in canonical form; port 0 if none was given.
    pub client: Option<SocketAddr>,
    /// The host name of the service that the client asked for.
    pub host: Option<Arc<str>>,
}

impl Forwarded {
    /// Reads a header's value. Never fails: what is not understood is left out, so are further hops after a comma.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        let mut forwarded = Self::default();
        if header.len() > MAX_HEADER {
            return forwarded;
        }
        let mut rest = header;
        while let Some((name, value, after)) = next_parameter(rest) {
            if name.eq_ignore_ascii_case("for") {
                forwarded.client = forwarded.client.or_else(|| parse_node(&value));
            } else if name.eq_ignore_ascii_case("host") && is_host(&value) {
                forwarded.host.get_or_insert_with(|| value.into());
            }
            rest = after;
        }
        forwarded
    }
}

/// Prints the header's value.
impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(client) = self.client {
            write!(f, "for=\"{client}\"")?;
            separator = ";";
        }
        match self.host.as_deref().filter(|host| is_host(host)) {
            Some(host) if host.bytes().all(is_token) => write!(f, "{separator}host={host}"),
            Some(host) => write!(f, "{separator}host=\"{host}\""),
            None => Ok(()),
        }
    }
}

/// The next `name=value` of the first hop, and what follows its `;`. `None` at the hop's end or at broken syntax.
fn next_parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim();
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let rest = rest.trim_start();
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find([';', ',']).unwrap_or(rest.len());
            (rest[..end].trim_end().to_owned(), &rest[end..])
        }
    };
    let rest = rest.trim_start();
    let after = match rest.strip_prefix(';') {
        Some(after) => after.trim_start(),
        None if rest.is_empty() || rest.starts_with(',') => "",
        None => return None,
    };
    Some((name, value, after))
}

/// The text up to the closing quote with its escapes undone (RFC 9110, section 5.6.4), and what follows the quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// `ip`, `ip:port`, `[v6]` or `[v6]:port` (RFC 7239, section 6); `unknown` and obfuscated names count as none.
fn parse_node(text: &str) -> Option<SocketAddr> {
    if text.contains('%') {
        return None; // a zone means nothing on another node
    }
    let address = if let Ok(address) = text.parse::<SocketAddr>() {
        address
    } else {
        let bracketed = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let ip = match bracketed {
            Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?),
            None => text.parse().ok()?,
        };
        SocketAddr::new(ip, 0)
    };
    Some(address::canonical(address))
}

fn is_host(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    (1..=MAX_HOST).contains(&host.len()) && host.bytes().all(allowed)
}

/// RFC 9110, section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: &str) {
        assert_eq!(Forwarded::parse(header).to_string(), expected, "{header:?}");
    }

    #[test]
    fn what_ztunnel_writes_is_read_and_written_alike() {
        check(
            r#"for="10.0.0.1:4711";host=web.demo.svc.cluster.local"#,
            r#"for="10.0.0.1:4711";host=web.demo.svc.cluster.local"#,
        );
        check(r#"for="[fd00::1]:4711""#, r#"for="[fd00::1]:4711""#);
        check("host=web", "host=web");
        check(r#"host="web:80""#, r#"host="web:80""#);
        check("", "");
    }

    #[test]
    fn the_grammar_of_the_rfc_is_understood() {
        check(r#"For="[::ffff:10.0.0.1]:80"; HOST=a ;proto=http, for=1.1.1.1"#, r#"for="10.0.0.1:80";host=a"#);
        check("for=192.0.2.43", r#"for="192.0.2.43:0""#);
        check(r#"for="[2001:db8::1]""#, r#"for="[2001:db8::1]:0""#);
        check(r#"for="10\.0.0.1:8\0""#, r#"for="10.0.0.1:80""#);
        check(r#"by="a;b,c";for=1.1.1.1"#, r#"for="1.1.1.1:0""#);
        check("for=unknown;host=a", "host=a");
        check("for=_hidden", "");
        check("for=1.1.1.1;for=2.2.2.2", r#"for="1.1.1.1:0""#);
    }

    #[test]
    fn hostile_input_gives_nothing() {
        for header in [
            r#"for="1.1.1.1"#,
            r#"for="1.1.1.1\"#,
            r#"for="1.1.1.1"x;host=a"#,
            "=;=;",
            ";;;;",
            ",for=1.1.1.1",
            "for",
            "f or=1.1.1.1",
            "host=\u{e9}",
            r#"host="a b""#,
            "for=[::1%1]:80",
            "for=1.1.1.1:99999",
        ] {
            check(header, "");
        }
        check(&format!("host={}", "a".repeat(300)), "");
        check(&format!("host=a;{}", "x=1;".repeat(600)), "");
    }
}
