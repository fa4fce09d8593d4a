//! What the frames that open a stream say: fields of tag, length and value. Pure; unknown fields are ignored.

use std::fmt::Display;
use std::io::Write;
use std::str::FromStr;

use super::frame::{LONGEST_CONTROL, Violation};
use crate::drivers::tunnel::connect::{ConnectError, ConnectRequest};
use crate::drivers::tunnel::refusal::{Cause, Refusal};
use crate::model::authority::Authority;
use crate::model::baggage::BaggageText;
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

/// Writes fields behind whatever is there.
#[derive(Debug)]
struct Writer<'a> {
    into: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    fn new(into: &'a mut Vec<u8>) -> Self {
        Self { start: into.len(), into }
    }

    /// A field that is empty, or for which there is no room, is left out.
    fn field(self, tag: Tag, value: &[u8]) -> Self {
        self.write(tag, |into| into.extend_from_slice(value))
    }

    /// As [`Self::field`], of what has a form as text.
    fn text(self, tag: Tag, value: Option<&dyn Display>) -> Self {
        match value {
            // Writing into memory does not fail.
            Some(value) => self.write(tag, |into| drop(write!(into, "{value}"))),
            None => self,
        }
    }

    fn write(self, tag: Tag, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let at = self.into.len();
        self.into.extend([tag as u8, 0, 0]);
        write(self.into);
        match u16::try_from(self.into.len() - at - 3) {
            Ok(length) if length > 0 && self.into.len() - self.start <= LONGEST_CONTROL => {
                self.into[at + 1..at + 3].copy_from_slice(&length.to_be_bytes());
            }
            _ => self.into.truncate(at),
        }
        self
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
pub(super) fn open(request: &ConnectRequest, into: &mut Vec<u8>) {
    Writer::new(into)
        .text(Tag::Authority, Some(&request.authority))
        .text(Tag::Traceparent, request.traceparent.as_ref().map(|t| t as &dyn Display))
        .text(Tag::Forwarded, request.forwarded.as_ref().map(|f| f as &dyn Display))
        .field(Tag::Baggage, request.baggage.as_str().as_bytes());
}

/// Reads OPEN. As in HBONE, only where to has to be right; what else is broken counts as missing.
pub(super) fn read_open(payload: &[u8]) -> Result<Result<ConnectRequest, ConnectError>, Violation> {
    let mut authority = Err(ConnectError::NoAuthority);
    let (mut baggage, mut forwarded, mut traceparent) = (BaggageText::default(), None, None);
    for field in fields(payload) {
        let (tag, value) = field?;
        let text = std::str::from_utf8(value).unwrap_or_default();
        match tag {
            tag if tag == Tag::Authority as u8 => {
                authority = Authority::from_str(text).map_err(ConnectError::Authority);
            }
            tag if tag == Tag::Baggage as u8 => baggage = BaggageText::received(text),
            tag if tag == Tag::Forwarded as u8 => forwarded = Some(Forwarded::parse(text)),
            tag if tag == Tag::Traceparent as u8 => traceparent = text.parse().ok(),
            _ => {}
        }
    }
    Ok(authority.map(|authority| ConnectRequest { authority, baggage, forwarded, traceparent }))
}

/// The payload of ACCEPT.
pub(super) fn accept(baggage: Option<&BaggageText>, into: &mut Vec<u8>) {
    let text = baggage.map(BaggageText::as_str).unwrap_or_default();
    Writer::new(into).field(Tag::Baggage, text.as_bytes());
}

/// Reads ACCEPT.
pub(super) fn read_accept(payload: &[u8]) -> Result<BaggageText, Violation> {
    Ok(text(payload, Tag::Baggage)?.map(BaggageText::received).unwrap_or_default())
}

/// The payload of REFUSE.
pub(super) fn refuse(refusal: Refusal, into: &mut Vec<u8>) {
    let cause = refusal.cause.token().unwrap_or_default();
    Writer::new(into).field(Tag::Status, &refusal.status.to_be_bytes()).field(Tag::Cause, cause.as_bytes());
}

/// Reads REFUSE.
pub(super) fn read_refuse(payload: &[u8]) -> Result<Refusal, Violation> {
    let status = value(payload, Tag::Status)?.and_then(|value| value.try_into().ok()).map(u16::from_be_bytes);
    let cause = text(payload, Tag::Cause)?.map_or(Cause::Unknown, Cause::from_token);
    Ok(Refusal { status: status.unwrap_or(503), cause })
}

/// The payload of HELLO: how many streams the sender takes at a time.
pub(super) fn hello(max_streams: u32, into: &mut Vec<u8>) {
    Writer::new(into).field(Tag::MaxStreams, &max_streams.to_be_bytes());
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

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = vec![7; 8];
        write(&mut frame);
        frame.split_off(8)
    }

    #[test]
    fn requests_and_answers_survive_the_way() {
        let full = ConnectRequest {
            authority: "[fd00::1]:80".parse().unwrap(),
            baggage: BaggageText::received("k8s.namespace.name=demo,service.name=web"),
            forwarded: Some(Forwarded::parse(r#"for="10.0.0.9:999";host=web.demo.svc.cluster.local"#)),
            traceparent: Some(Traceparent::new(1, 2)),
        };
        let bare = ConnectRequest::to("web.demo:80".parse::<Authority>().unwrap());
        for request in [full.clone(), bare] {
            assert_eq!(read_open(&written(|into| open(&request, into))).unwrap().unwrap(), request);
        }
        assert_eq!(read_accept(&written(|into| accept(Some(&full.baggage), into))).unwrap(), full.baggage);
        assert_eq!(read_accept(&written(|into| accept(None, into))).unwrap(), BaggageText::default());
        for refusal in [Refusal::DENIED, Refusal::BAD_REQUEST, Refusal::unavailable(Cause::ConnectionRefused)] {
            assert_eq!(read_refuse(&written(|into| refuse(refusal, into))).unwrap(), refusal);
        }
        assert_eq!(read_hello(&written(|into| hello(77, into))).unwrap(), Some(77));
    }

    #[test]
    fn only_where_to_has_to_be_right() {
        assert_eq!(read_open(b"").unwrap(), Err(ConnectError::NoAuthority));
        assert!(matches!(read_open(&[1, 0, 3, b'a', b':', b'x']).unwrap(), Err(ConnectError::Authority(_))));
        let request = ConnectRequest::to("10.0.0.1:80".parse::<Authority>().unwrap());
        let mut payload = written(|into| open(&request, into));
        payload.extend([Tag::Traceparent as u8, 0, 2, b'z', b'z', 99, 0, 1, 0, Tag::Baggage as u8, 0, 1, 0xff]);
        let request = read_open(&payload).unwrap().unwrap();
        assert_eq!((request.traceparent, request.baggage), (None, BaggageText::default()));
        assert!(read_open(&[1, 0, 9, b'a']).is_err());
        assert!(read_open(&[1, 0]).is_err());
        assert_eq!(read_refuse(b"").unwrap(), Refusal::unavailable(Cause::Unknown));
    }

    #[test]
    fn what_is_too_long_for_a_frame_is_left_out() {
        let mut request = ConnectRequest::to("10.0.0.1:80".parse::<Authority>().unwrap());
        request.baggage = BaggageText::received(&"x".repeat(LONGEST_CONTROL));
        let payload = written(|into| open(&request, into));
        assert!(payload.len() <= LONGEST_CONTROL);
        assert_eq!(read_open(&payload).unwrap().unwrap().authority, request.authority);
    }
}
