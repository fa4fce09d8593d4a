//! Who is answered at all.
//!
//! Pages that are for this machine alone listen on loopback, but a browser on this machine runs other people's programs. They
//! are told by what a browser adds: an `Origin`, a `Sec-Fetch-Site`, and the name that led it here, which an attacker's own DNS
//! may point to 127.0.0.1.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::{Method, Uri};

use super::page::Page;

/// The longest path and query, in bytes.
const LONGEST_TARGET: usize = 8 * 1024;

/// Whom the pages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Collectors, probes: they may know this machine by any name.
    Anybody,
    /// Operators on this machine, also through a forwarded port.
    ThisMachine,
}

/// Refuses what nobody who means well sends.
///
/// # Errors
/// The page that says so.
pub(super) fn check(audience: Audience, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Page> {
    if uri.path().len() + uri.query().map_or(0, str::len) > LONGEST_TARGET {
        return Err(Page::text(414, format!("the path and the query are longer than {LONGEST_TARGET} bytes\n")));
    }
    if *method != Method::GET && *method != Method::POST {
        return Err(Page::text(405, "only GET and POST are answered here\n"));
    }
    match audience {
        Audience::Anybody => Ok(()),
        Audience::ThisMachine => local(uri, headers),
    }
}

fn local(uri: &Uri, headers: &HeaderMap) -> Result<(), Page> {
    if headers.contains_key(ORIGIN) || !is_navigation(headers) {
        return Err(Page::text(403, "web pages are not answered here\n"));
    }
    let named =
        headers.get_all(HOST).iter().map(|host| host.to_str().ok()).chain(uri.authority().map(|a| Some(a.as_str())));
    for host in named {
        if !host.is_some_and(is_this_machine) {
            return Err(Page::text(403, "call this machine by an IP address or as localhost\n"));
        }
    }
    Ok(())
}

/// Typed in by a user, or from one of these pages; programs do not say.
fn is_navigation(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.all(|site| matches!(site.as_bytes(), b"none" | b"same-origin"))
}

/// Whether no DNS had a part in how this machine was found.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(audience: Audience, headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        check(audience, &Method::GET, &Uri::from_static("/logging"), &headers).err().map(|page| page.status)
    }

    #[test]
    fn this_machine_is_called_by_address() {
        for host in ["127.0.0.1:15000", "127.0.0.1", "localhost", "LOCALHOST:8080", "[::1]:15000", "10.0.0.1:15000"] {
            assert_eq!(status(Audience::ThisMachine, &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:15000", "localhost.evil.example", "", "[::1", "@localhost"]
        {
            assert_eq!(status(Audience::ThisMachine, &[("host", host)]), Some(403), "{host}");
            assert_eq!(status(Audience::Anybody, &[("host", host)]), None, "{host}");
        }
        assert_eq!(status(Audience::ThisMachine, &[("host", "localhost"), ("host", "evil.example")]), Some(403));
    }

    #[test]
    fn other_peoples_web_pages_are_not_answered() {
        let with = |name, value| status(Audience::ThisMachine, &[("host", "localhost:15000"), (name, value)]);
        assert_eq!(with("origin", "https://evil.example"), Some(403));
        assert_eq!(with("origin", "null"), Some(403));
        assert_eq!(with("sec-fetch-site", "cross-site"), Some(403));
        assert_eq!(with("sec-fetch-site", "none"), None);
        assert_eq!(with("user-agent", "curl/8"), None);
    }

    #[test]
    fn long_targets_and_other_methods_are_refused() {
        let uri: Uri = format!("/explain?{}", "x".repeat(LONGEST_TARGET)).parse().unwrap();
        let none = HeaderMap::new();
        let refused =
            |method: Method, uri: &Uri| check(Audience::Anybody, &method, uri, &none).err().map(|page| page.status);
        assert_eq!(refused(Method::GET, &uri), Some(414));
        assert_eq!(refused(Method::DELETE, &Uri::from_static("/")), Some(405));
        assert_eq!(refused(Method::POST, &Uri::from_static("/")), None);
    }
}
