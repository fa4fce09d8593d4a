//! The CONNECT request of HBONE and its headers, to and from HTTP. Pure; whatever a peer sends is only read.

use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use thiserror::Error;

use crate::model::authority::{Authority, AuthorityError};
use crate::model::baggage::BaggageText;
use crate::model::forwarded::Forwarded;
use crate::model::traceparent::Traceparent;

use super::error::NotProcessed;

/// Istio's description of the sender's workload; also on the response, for the receiver's.
pub(super) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What one side asks the other: a TCP connection to somewhere, and on whose behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Where to.
    pub authority: Authority,
    /// The source workload; empty if it was not told.
    pub baggage: BaggageText,
    /// The original client and the service that it asked for.
    pub forwarded: Option<Forwarded>,
    /// Ties the log lines of both nodes together.
    pub traceparent: Option<Traceparent>,
}

/// Why a request is not HBONE.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// Another method.
    #[error("the method is not CONNECT")]
    Method,
    /// A CONNECT of RFC 8441.
    #[error("extended CONNECT is not HBONE")]
    Extended,
    /// It does not say where to.
    #[error("the request has no authority")]
    NoAuthority,
    /// It says so in a form that is not understood.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl ConnectRequest {
    /// A request that tells nothing but where to.
    #[must_use]
    pub fn to(authority: impl Into<Authority>) -> Self {
        Self { authority: authority.into(), baggage: BaggageText::default(), forwarded: None, traceparent: None }
    }

    /// The HTTP form: `:method` and `:authority` only (RFC 9113, section 8.5), then the headers that there are.
    pub(super) fn to_http(&self) -> Result<Request<()>, NotProcessed> {
        let invalid = |error: http::Error| NotProcessed::Request(error.to_string());
        let builder = Request::builder().method(Method::CONNECT).uri(self.authority.to_string());
        let mut request = builder.body(()).map_err(invalid)?;
        let headers = request.headers_mut();
        insert(headers, BAGGAGE, self.baggage.as_str());
        insert(headers, FORWARDED, &self.forwarded.as_ref().map(ToString::to_string).unwrap_or_default());
        insert(headers, TRACEPARENT, &self.traceparent.as_ref().map(ToString::to_string).unwrap_or_default());
        Ok(request)
    }

    /// Reads a request. Headers that are broken count as missing; only the method and the authority must be right.
    pub(super) fn from_http(request: &http::request::Parts) -> Result<Self, ConnectError> {
        if request.method != Method::CONNECT {
            return Err(ConnectError::Method);
        }
        if request.extensions.get::<h2::ext::Protocol>().is_some() {
            return Err(ConnectError::Extended);
        }
        let authority = request.uri.authority().ok_or(ConnectError::NoAuthority)?;
        Ok(Self {
            authority: Authority::from_str(authority.as_str())?,
            baggage: baggage(&request.headers),
            forwarded: text(&request.headers, &FORWARDED).map(Forwarded::parse),
            traceparent: text(&request.headers, &TRACEPARENT).and_then(|text| text.parse().ok()),
        })
    }
}

/// The `baggage` of a request or a response.
pub(super) fn baggage(headers: &HeaderMap) -> BaggageText {
    text(headers, &BAGGAGE).map(BaggageText::received).unwrap_or_default()
}

/// Adds a header unless it is empty or cannot be written.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> ConnectRequest {
        ConnectRequest {
            authority: "[fd00::1]:80".parse().unwrap(),
            baggage: BaggageText::received("k8s.namespace.name=demo,service.name=web"),
            forwarded: Some(Forwarded::parse(r#"for="10.0.0.9:999";host=web.demo.svc.cluster.local"#)),
            traceparent: Some(Traceparent::new(1, 2)),
        }
    }

    fn parts(request: Request<()>) -> http::request::Parts {
        request.into_parts().0
    }

    #[test]
    fn a_request_survives_the_way_through_http() {
        for request in [full(), ConnectRequest::to("web.demo:80".parse::<Authority>().unwrap())] {
            let http = parts(request.to_http().unwrap());
            assert_eq!(http.uri.path_and_query(), None);
            assert_eq!(http.uri.scheme(), None);
            assert_eq!(ConnectRequest::from_http(&http).unwrap(), request);
        }
    }

    #[test]
    fn only_connect_with_an_authority_is_taken() {
        let get = Request::builder().uri("http://10.0.0.1:80/").body(()).unwrap();
        assert_eq!(ConnectRequest::from_http(&parts(get)).unwrap_err(), ConnectError::Method);

        let mut extended = full().to_http().unwrap();
        extended.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        assert_eq!(ConnectRequest::from_http(&parts(extended)).unwrap_err(), ConnectError::Extended);

        let nowhere = Request::builder().method(Method::CONNECT).uri("/").body(()).unwrap();
        assert_eq!(ConnectRequest::from_http(&parts(nowhere)).unwrap_err(), ConnectError::NoAuthority);

        let no_port = Request::builder().method(Method::CONNECT).uri("10.0.0.1").body(()).unwrap();
        assert!(matches!(ConnectRequest::from_http(&parts(no_port)).unwrap_err(), ConnectError::Authority(_)));
    }

    #[test]
    fn broken_headers_count_as_missing() {
        let mut request = ConnectRequest::to("10.0.0.1:80".parse::<Authority>().unwrap()).to_http().unwrap();
        request.headers_mut().insert(BAGGAGE, HeaderValue::from_bytes(b"service.name=\xff").unwrap());
        request.headers_mut().insert(TRACEPARENT, HeaderValue::from_static("00-x"));
        let read = ConnectRequest::from_http(&parts(request)).unwrap();
        assert_eq!(read.baggage, BaggageText::default());
        assert_eq!(read.traceparent, None);
    }
}
