//! The events of a watch: lines of JSON in a body without an end.

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{ApiError, Status};
use super::page::Head;

/// The longest line that is read, in bytes. etcd takes objects of 1.5 MiB.
const MAX_LINE: usize = 16 << 20;

/// Cuts a body into lines, however it arrives.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no end of a line.
    searched: usize,
}

impl Lines {
    pub(super) fn push(&mut self, what: &str, data: &[u8]) -> Result<(), ApiError> {
        if self.buffer.len() + data.len() > MAX_LINE {
            return Err(ApiError::bad(what, format!("an event is longer than {MAX_LINE} bytes")));
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// The next whole line, without its end.
    pub(super) fn next(&mut self) -> Option<BytesMut> {
        let found = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
        let Some(end) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end);
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

/// What a line of a watch says.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// An object is there, new or changed.
    Present(Head, &'a RawValue),
    /// An object is gone.
    Absent(Head),
    /// Nothing but how far the watch has come.
    Bookmark(Head),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl<'a> Event<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no event, or the server's own report of an error.
    pub(super) fn read(what: &str, line: &'a [u8]) -> Result<Self, ApiError> {
        let bad = |error| ApiError::bad(what, error);
        let line: Line<'a> = serde_json::from_slice(line).map_err(bad)?;
        if line.kind == "ERROR" {
            let text = line.object.get();
            let code = serde_json::from_str::<Status>(text).ok().and_then(|status| status.code).unwrap_or(500);
            return Err(ApiError::status(what, code, text.as_bytes(), None));
        }
        let head = if line.kind == "BOOKMARK" {
            serde_json::from_str(line.object.get()).map_err(bad)?
        } else {
            Head::of_object(what, line.object)?
        };
        match line.kind.as_str() {
            "ADDED" | "MODIFIED" => Ok(Self::Present(head, line.object)),
            "DELETED" => Ok(Self::Absent(head)),
            "BOOKMARK" => Ok(Self::Bookmark(head)),
            other => Err(ApiError::bad(what, format!("unknown type of event {other:?}"))),
        }
    }

    /// The version of the collection after this event.
    pub(super) fn version(&self) -> &str {
        let (Self::Present(head, _) | Self::Absent(head) | Self::Bookmark(head)) = self;
        &head.metadata.resource_version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_arrive() {
        let text = b"{\"a\":1}\n\nlong line\nrest";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in text.chunks(size) {
                lines.push("WATCH pods", piece).unwrap();
                while let Some(line) = lines.next() {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(seen, ["{\"a\":1}", "", "long line"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..17).find_map(|_| lines.push("WATCH pods", &piece).err());
        assert!(refused.unwrap().to_string().contains("longer than"));
    }

    #[test]
    fn events_are_told_apart() {
        let read = |line: &'static str| Event::read("WATCH pods", line.as_bytes());
        let added = read(
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"n","resourceVersion":"5"},"spec":7}}"#,
        );
        let Ok(Event::Present(head, raw)) = &added else { panic!("{added:?}") };
        assert_eq!((head.metadata.name.as_str(), head.metadata.namespace.as_str()), ("a", "n"));
        assert!(raw.get().contains("spec"));
        assert_eq!(added.as_ref().unwrap().version(), "5");
        assert!(matches!(
            read(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#),
            Ok(Event::Bookmark(_))
        ));
        assert!(matches!(read(r#"{"type":"DELETED","object":{"metadata":{"name":"a"}}}"#), Ok(Event::Absent(_))));
    }

    #[test]
    fn errors_in_the_stream_are_errors() {
        let read = |line: &'static str| Event::read("WATCH pods", line.as_bytes()).unwrap_err();
        let gone =
            r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version: 1 (5)"}}"#;
        assert!(matches!(read(gone), ApiError::Gone(_)));
        assert_eq!(read(r#"{"type":"ERROR","object":{}}"#).code(), Some(500));
        for bad in [r#"{"type":"NEWS","object":{}}"#, "{}", "", r#"{"type":"ADDED","object":[]}"#] {
            assert!(matches!(read(bad), ApiError::BadAnswer { .. }), "{bad}");
        }
    }
}
