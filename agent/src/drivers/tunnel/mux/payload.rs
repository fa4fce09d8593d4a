//! What the frames that open a stream say: fields of tag, length and value. Pure; unknown fields are ignored.

use std::str::FromStr;

use super::frame::{LONGEST_CONTROL, Violation};
use crate::drivers::tunnel::connect::{ConnectError, ConnectRequest};
use crate::drivers::tunnel::refusal::{Cause, Refusal};
use crate::model::authority::Authority;
use crate::model::baggage::Baggage;
use crate::model::forwarded::Forwarded;

/// What a field is. Values are text in the form of HBONE's headers, or numbers in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Authority = 1,
    Baggage = 2,
    Forwarded = 3,
    Traceparent = 4,
    Status = 5,
    Cause = 6,
    MaxStreams = 7,
}

/// Writes fields.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// A field that is empty, or for which there is no room, is left out.
    fn field(mut self, tag: Tag, value: &[u8]) -> Self {
        let room = LONGEST_CONTROL - self.0.len();
        if let (false, Ok(length)) = (value.is_empty(), u16::try_from(value.len()))
            && 3 + value.len() <= room
        {
            self.0.push(tag as u8);
            self.0.extend(length.to_be_bytes());
            self.0.extend_from_slice(value);
        }
        self
    }

    fn text(self, tag: Tag, value: Option<&dyn ToString>) -> Self {
        match value {
            Some(value) => self.field(tag, value.to_string().as_bytes()),
            None => self,
        }
    }
}

/// The fields of a payload, in order.
fn fields(mut payload: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Violation>> {
    std::iter::from_fn(move || {
        let broken = Some(Err(Violation("a field that is longer than its frame")));
        let (&tag, rest) = payload.split_first()?;
        let Some((length, rest)) = rest.split_first_chunk() else {
            payload = &[];
            return broken;
        };
        let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            payload = &[];
            return broken;
        };
        payload = rest;
        Some(Ok((tag, value)))
    })
}

/// The payload of OPEN.
pub(super) fn open(request: &ConnectRequest) -> Vec<u8> {
    Writer::default()
        .text(Tag::Authority, Some(&request.authority))
        .text(Tag::Traceparent, request.traceparent.as_ref().map(|t| t as &dyn ToString))
        .text(Tag::Forwarded, request.forwarded.as_ref().map(|f| f as &dyn ToString))
        .text(Tag::Baggage, Some(&request.baggage))
        .0
}

/// Reads OPEN. As in HBONE, only where to has to be right; what else is broken counts as missing.
pub(super) fn read_open(payload: &[u8]) -> Result<Result<ConnectRequest, ConnectError>, Violation> {
    let mut authority = Err(ConnectError::NoAuthority);
    let (mut baggage, mut forwarded, mut traceparent) = (Baggage::default(), None, None);
    for field in fields(payload) {
        let (tag, value) = field?;
        let text = std::str::from_utf8(value).unwrap_or_default();
        match tag {
            tag if tag == Tag::Authority as u8 => {
                authority = Authority::from_str(text).map_err(ConnectError::Authority);
            }
            tag if tag == Tag::Baggage as u8 => baggage = Baggage::parse(text),
            tag if tag == Tag::Forwarded as u8 => forwarded = Some(Forwarded::parse(text)),
            tag if tag == Tag::Traceparent as u8 => traceparent = text.parse().ok(),
            _ => {}
        }
    }
    Ok(authority.map(|authority| ConnectRequest { authority, baggage, forwarded, traceparent }))
}

/// The payload of ACCEPT.
pub(super) fn accept(baggage: Option<&Baggage>) -> Vec<u8> {
    Writer::default().text(Tag::Baggage, baggage.map(|b| b as &dyn ToString)).0
}

/// Reads ACCEPT.
pub(super) fn read_accept(payload: &[u8]) -> Result<Baggage, Violation> {
    Ok(text(payload, Tag::Baggage)?.map(Baggage::parse).unwrap_or_default())
}

/// The payload of REFUSE.
pub(super) fn refuse(refusal: Refusal) -> Vec<u8> {
    let cause = refusal.cause.token().unwrap_or_default();
    Writer::default().field(Tag::Status, &refusal.status.to_be_bytes()).field(Tag::Cause, cause.as_bytes()).0
}

/// Reads REFUSE.
pub(super) fn read_refuse(payload: &[u8]) -> Result<Refusal, Violation> {
    let status = value(payload, Tag::Status)?.and_then(|value| value.try_into().ok()).map(u16::from_be_bytes);
    let cause = text(payload, Tag::Cause)?.map_or(Cause::Unknown, Cause::from_token);
    Ok(Refusal { status: status.unwrap_or(503), cause })
}

/// The payload of HELLO: how many streams the sender takes at a time.
pub(super) fn hello(max_streams: u32) -> Vec<u8> {
    Writer::default().field(Tag::MaxStreams, &max_streams.to_be_bytes()).0
}

/// Reads HELLO.
pub(super) fn read_hello(payload: &[u8]) -> Result<Option<u32>, Violation> {
    Ok(value(payload, Tag::MaxStreams)?.and_then(|value| value.try_into().ok()).map(u32::from_be_bytes))
}

fn value(payload: &[u8], tag: Tag) -> Result<Option<&[u8]>, Violation> {
    let mut found = None;
    for field in fields(payload) {
        let (other, value) = field?;
        found = if other == tag as u8 { Some(value) } else { found };
    }
    Ok(found)
}

fn text(payload: &[u8], tag: Tag) -> Result<Option<&str>, Violation> {
    Ok(value(payload, tag)?.and_then(|value| std::str::from_utf8(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::traceparent::Traceparent;

    #[test]
    fn requests_and_answers_survive_the_way() {
        let full = ConnectRequest {
            authority: "[fd00::1]:80".parse().unwrap(),
            baggage: Baggage::parse("k8s.namespace.name=demo,service.name=web"),
            forwarded: Some(Forwarded::parse(r#"for="10.0.0.9:999";host=web.demo.svc.cluster.local"#)),
            traceparent: Some(Traceparent::new(1, 2)),
        };
        let bare = ConnectRequest::to("web.demo:80".parse::<Authority>().unwrap());
        for request in [full.clone(), bare] {
            assert_eq!(read_open(&open(&request)).unwrap().unwrap(), request);
        }
        assert_eq!(read_accept(&accept(Some(&full.baggage))).unwrap(), full.baggage);
        assert!(read_accept(&accept(None)).unwrap().is_empty());
        for refusal in [Refusal::DENIED, Refusal::BAD_REQUEST, Refusal::unavailable(Cause::ConnectionRefused)] {
            assert_eq!(read_refuse(&refuse(refusal)).unwrap(), refusal);
        }
        assert_eq!(read_hello(&hello(77)).unwrap(), Some(77));
    }

    #[test]
    fn only_where_to_has_to_be_right() {
        assert_eq!(read_open(b"").unwrap(), Err(ConnectError::NoAuthority));
        assert!(matches!(read_open(&[1, 0, 3, b'a', b':', b'x']).unwrap(), Err(ConnectError::Authority(_))));
        let mut payload = open(&ConnectRequest::to("10.0.0.1:80".parse::<Authority>().unwrap()));
        payload.extend([Tag::Traceparent as u8, 0, 2, b'z', b'z', 99, 0, 1, 0, Tag::Baggage as u8, 0, 1, 0xff]);
        let request = read_open(&payload).unwrap().unwrap();
        assert_eq!((request.traceparent, request.baggage.is_empty()), (None, true));
        assert!(read_open(&[1, 0, 9, b'a']).is_err());
        assert!(read_open(&[1, 0]).is_err());
        assert_eq!(read_refuse(b"").unwrap(), Refusal::unavailable(Cause::Unknown));
    }

    #[test]
    fn what_is_too_long_for_a_frame_is_left_out() {
        let mut request = ConnectRequest::to("10.0.0.1:80".parse::<Authority>().unwrap());
        request.baggage = Baggage::parse(&format!("service.name={}", "x".repeat(LONGEST_CONTROL)));
        let payload = open(&request);
        assert!(payload.len() <= LONGEST_CONTROL);
        assert_eq!(read_open(&payload).unwrap().unwrap().authority, request.authority);
    }
}
