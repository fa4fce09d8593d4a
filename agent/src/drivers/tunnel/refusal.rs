//! A refused connection: the HTTP status of HBONE, and why in the words of `Proxy-Status` (RFC 9209), so that the node
//! that asked can show its client what happened at the other end.

use std::fmt;

use http::{HeaderMap, HeaderName, Response, StatusCode};

use super::connect;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What the name of the proxy is in `Proxy-Status`.
const PROXY: &str = "sotto";

/// Headers longer than this are not looked at, in bytes.
const MAX_HEADER: usize = 1024;

/// A refused connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status: 400 not HBONE or not for here, 401 denied by policy, 503 the upstream could not be reached. From
    /// other implementations also others, from 300 to 599.
    pub status: u16,
    /// Why, if the peer told.
    pub cause: Cause,
}

/// Why a connection was refused: the error types of RFC 9209, section 2.3, that apply to a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer did not tell, or something that is not in this list.
    Unknown,
    /// The request was not understood or is not for this peer.
    RequestError,
    /// Policy denies it.
    Denied,
    /// The peer does not know the destination.
    DestinationNotFound,
    /// The destination is known, but has nobody to serve it now.
    DestinationUnavailable,
    /// The application's host refused the connection: nobody listens on the port.
    ConnectionRefused,
    /// The application's host did not answer in time.
    ConnectionTimeout,
    /// The peer has too many connections.
    LimitReached,
    /// Something went wrong inside the peer.
    Internal,
}

const TOKENS: [(Cause, &str); 8] = [
    (Cause::RequestError, "http_request_error"),
    (Cause::Denied, "http_request_denied"),
    (Cause::DestinationNotFound, "destination_not_found"),
    (Cause::DestinationUnavailable, "destination_unavailable"),
    (Cause::ConnectionRefused, "connection_refused"),
    (Cause::ConnectionTimeout, "connection_timeout"),
    (Cause::LimitReached, "connection_limit_reached"),
    (Cause::Internal, "proxy_internal_error"),
];

impl Refusal {
    /// 400: not HBONE, or not for this destination.
    pub const BAD_REQUEST: Self = Self { status: 400, cause: Cause::RequestError };
    /// 401: denied by policy, as ztunnel answers it.
    pub const DENIED: Self = Self { status: 401, cause: Cause::Denied };

    /// 503: the upstream could not be reached.
    #[must_use]
    pub fn unavailable(cause: Cause) -> Self {
        Self { status: 503, cause }
    }

    pub(super) fn to_http(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        if let Some(token) = self.cause.token() {
            connect::insert(response.headers_mut(), PROXY_STATUS, &format!("{PROXY}; error={token}"));
        }
        response
    }

    pub(super) fn from_http(status: StatusCode, headers: &HeaderMap) -> Self {
        let header = headers.get(PROXY_STATUS).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self { status: status.as_u16(), cause: Cause::from_proxy_status(header) }
    }
}

impl Cause {
    /// Reads the `error` of the last proxy in a `Proxy-Status` header, which is the one nearest to us.
    #[must_use]
    pub fn from_proxy_status(header: &str) -> Self {
        if header.len() > MAX_HEADER {
            return Self::Unknown;
        }
        let nearest = header.rsplit(',').next().unwrap_or_default();
        let error = nearest.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("error="));
        error.map_or(Self::Unknown, Self::from_token)
    }

    /// Its name in RFC 9209; none for the unknown.
    pub(super) fn token(self) -> Option<&'static str> {
        TOKENS.iter().find(|(cause, _)| *cause == self).map(|(_, token)| *token)
    }

    pub(super) fn from_token(text: &str) -> Self {
        TOKENS.iter().find(|(_, token)| *token == text).map_or(Self::Unknown, |(cause, _)| *cause)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match (self.cause, self.status) {
            (Cause::Unknown, 401 | 403) | (Cause::Denied, _) => "denied by the policy of the destination",
            (Cause::Unknown, _) => "no reason given",
            (Cause::RequestError, _) => "the request is not for this peer",
            (Cause::DestinationNotFound, _) => "the destination is not known there",
            (Cause::DestinationUnavailable, _) => "the destination has no healthy endpoint",
            (Cause::ConnectionRefused, _) => "nobody listens on the destination's port",
            (Cause::ConnectionTimeout, _) => "the destination did not answer",
            (Cause::LimitReached, _) => "the peer has too many connections",
            (Cause::Internal, _) => "an error inside the peer",
        };
        write!(f, "{why} (status {})", self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: Cause) {
        assert_eq!(Cause::from_proxy_status(header), expected, "{header:?}");
    }

    #[test]
    fn every_cause_survives_the_way_through_http() {
        for (cause, _) in TOKENS {
            let refusal = Refusal::unavailable(cause);
            let (parts, ()) = refusal.to_http().into_parts();
            assert_eq!(Refusal::from_http(parts.status, &parts.headers), refusal);
        }
        let (parts, ()) = Refusal { status: 7, cause: Cause::Unknown }.to_http().into_parts();
        assert_eq!(Refusal::from_http(parts.status, &parts.headers), Refusal::unavailable(Cause::Unknown));
    }

    #[test]
    fn the_nearest_proxy_counts() {
        check("a; error=connection_timeout, b; x=1 ;error=connection_refused", Cause::ConnectionRefused);
        check("a; error=connection_timeout, b", Cause::Unknown);
        check("error=connection_timeout", Cause::Unknown);
        check("a; error=nonsense", Cause::Unknown);
        check("", Cause::Unknown);
        check(&format!("a; error=connection_timeout{}", " ".repeat(2000)), Cause::Unknown);
    }
}
