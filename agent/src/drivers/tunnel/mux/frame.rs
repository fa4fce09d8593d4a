//! Frames on the wire: 8 bytes of header, then a payload. Pure, and indifferent to how the bytes are cut on the way.

use std::ops::Range;

/// The length of a frame's header, in bytes.
pub const HEADER: usize = 8;

/// The longest payload of a frame other than DATA, in bytes.
pub const LONGEST_CONTROL: usize = 8 * 1024;

/// The longest payload of a frame of a kind that we do not know, in bytes.
const LONGEST_UNKNOWN: usize = 64 * 1024;

/// Kinds from here on may be ignored by whoever does not know them.
const FIRST_IGNORABLE: u8 = 128;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a stream.
    Data = 0,
    /// A client asks for a connection.
    Open = 1,
    /// The server has made it.
    Accept = 2,
    /// The server has not made it, and will not.
    Refuse = 3,
    /// The sender's direction of a stream has ended: TCP's FIN.
    Fin = 4,
    /// Both directions have ended at once: TCP's RST.
    Reset = 5,
    /// The receiver may send so many bytes more in a stream.
    Credit = 6,
    /// The first frame of either side.
    Hello = 7,
    /// To be answered at once.
    Ping = 8,
    /// The answer.
    Pong = 9,
    /// The sender takes no further streams.
    GoAway = 10,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Data,
        Self::Open,
        Self::Accept,
        Self::Refuse,
        Self::Fin,
        Self::Reset,
        Self::Credit,
        Self::Hello,
        Self::Ping,
        Self::Pong,
        Self::GoAway,
    ];

    /// Lengths that its payload may have, and whether it belongs to a stream.
    fn form(self) -> (Range<usize>, bool) {
        match self {
            Self::Data => (1..1 << 24, true),
            Self::Open | Self::Accept | Self::Refuse => (0..LONGEST_CONTROL + 1, true),
            Self::Fin => (0..1, true),
            Self::Reset | Self::Credit => (4..5, true),
            Self::Hello => (0..LONGEST_CONTROL + 1, false),
            Self::Ping | Self::Pong => (8..9, false),
            Self::GoAway => (8..9, false),
        }
    }
}

/// The peer broke the protocol: the tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// A frame's header: stream (4 bytes), kind (1), length of the payload (3), all in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream; 0 for the tunnel itself.
    pub stream: u32,
    /// What it says; `None` for what may be ignored.
    pub kind: Option<Kind>,
    /// How much follows, in bytes.
    pub length: usize,
}

impl Header {
    /// The header of a frame that we send.
    ///
    /// # Panics
    /// When the length does not fit into 24 bits.
    #[must_use]
    pub fn encode(stream: u32, kind: Kind, length: usize) -> [u8; HEADER] {
        assert!(length < 1 << 24, "a frame of {length} bytes");
        let [a, b, c, d] = stream.to_be_bytes();
        let [_, e, f, g] = (length as u32).to_be_bytes();
        [a, b, c, d, kind as u8, e, f, g]
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// [`Violation`]
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, Violation> {
        let [a, b, c, d, kind, e, f, g] = bytes;
        let stream = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, e, f, g]) as usize;
        let known = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        match known {
            Some(known) => {
                let (lengths, of_stream) = known.form();
                if !lengths.contains(&length) {
                    return Err(Violation("a frame with a length that its kind does not allow"));
                }
                if of_stream != (stream != 0) {
                    return Err(Violation("a frame of the tunnel in a stream, or of a stream in none"));
                }
            }
            None if kind < FIRST_IGNORABLE => return Err(Violation("a frame of a kind that nobody knows")),
            None if length > LONGEST_UNKNOWN => return Err(Violation("a frame that is too long to be ignored")),
            None => {}
        }
        Ok(Self { stream, kind: known, length })
    }
}

/// Part of what came.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Bytes of a stream: where they lie. A frame's may come in several items.
    Data {
        /// The stream.
        stream: u32,
        /// Where, in what was given to [`Parser::next`].
        range: Range<usize>,
    },
    /// Any other frame, whole.
    Control {
        /// Its stream.
        stream: u32,
        /// What it says.
        kind: Kind,
        /// Its payload.
        payload: &'a [u8],
    },
}

/// Finds frames in bytes that come in pieces of any size.
#[derive(Debug, Default)]
pub struct Parser {
    head: [u8; HEADER],
    head_length: usize,
    frame: Option<Header>,
    left: usize,
    control: Vec<u8>,
}

impl Parser {
    /// The next item in `bytes` from `at` on, which moves behind it; `None` once everything is used up.
    ///
    /// # Errors
    /// [`Violation`]; there is no way on from it.
    pub fn next<'a>(&'a mut self, bytes: &'a [u8], at: &mut usize, end: usize) -> Result<Option<Item<'a>>, Violation> {
        loop {
            let Some(frame) = self.frame else {
                if !self.read_head(bytes, at, end)? {
                    return Ok(None);
                }
                continue;
            };
            let part = self.left.min(end - *at);
            let range = *at..*at + part;
            match frame.kind {
                Some(Kind::Data) => {
                    if part == 0 {
                        return Ok(None);
                    }
                    self.skip(part, at);
                    return Ok(Some(Item::Data { stream: frame.stream, range }));
                }
                Some(kind) => {
                    let whole = part == frame.length;
                    if !whole {
                        self.control.extend_from_slice(&bytes[range.clone()]);
                    }
                    self.skip(part, at);
                    if self.frame.is_some() {
                        return Ok(None);
                    }
                    let payload = if whole { &bytes[range] } else { &self.control };
                    return Ok(Some(Item::Control { stream: frame.stream, kind, payload }));
                }
                None => {
                    self.skip(part, at);
                    if self.frame.is_some() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn read_head(&mut self, bytes: &[u8], at: &mut usize, end: usize) -> Result<bool, Violation> {
        let part = (HEADER - self.head_length).min(end - *at);
        self.head[self.head_length..self.head_length + part].copy_from_slice(&bytes[*at..*at + part]);
        self.head_length += part;
        *at += part;
        if self.head_length < HEADER {
            return Ok(false);
        }
        let header = Header::decode(self.head)?;
        (self.head_length, self.left, self.frame) = (0, header.length, Some(header));
        // An idle tunnel holds no buffer for what was longer than usual once.
        self.control = Vec::new();
        Ok(true)
    }

    fn skip(&mut self, part: usize, at: &mut usize) {
        *at += part;
        self.left -= part;
        if self.left == 0 {
            self.frame = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Header::encode(stream, kind, payload.len()).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    /// What is read when the bytes come in pieces of `size`: (stream, kind, payload), data of one frame joined.
    fn read(bytes: &[u8], size: usize) -> Result<Vec<(u32, Kind, Vec<u8>)>, Violation> {
        let mut parser = Parser::default();
        let mut found: Vec<(u32, Kind, Vec<u8>)> = Vec::new();
        for piece in bytes.chunks(size) {
            let mut at = 0;
            while let Some(item) = parser.next(piece, &mut at, piece.len())? {
                match item {
                    Item::Control { stream, kind, payload } => found.push((stream, kind, payload.to_vec())),
                    Item::Data { stream, range } => match found.last_mut() {
                        Some((last, Kind::Data, data)) if *last == stream => data.extend_from_slice(&piece[range]),
                        _ => found.push((stream, Kind::Data, piece[range].to_vec())),
                    },
                }
            }
            assert_eq!(at, piece.len());
        }
        Ok(found)
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let frames = [
            (0, Kind::Hello, vec![1; 40]),
            (1, Kind::Open, vec![2; 300]),
            (1, Kind::Data, vec![3; 5000]),
            (7, Kind::Data, vec![4; 1]),
            (1, Kind::Fin, vec![]),
            (0, Kind::Ping, vec![5; 8]),
            (1, Kind::Accept, vec![]),
        ];
        let mut bytes = Vec::new();
        for (stream, kind, payload) in &frames {
            bytes.extend(frame(*stream, *kind, payload));
            // An extension that we do not know, in between.
            bytes.extend([0, 0, 0, 9, 200, 0, 0, 3, 1, 2, 3]);
        }
        for size in [1, 2, 3, 7, 8, 9, 64, 1000, bytes.len()] {
            assert_eq!(read(&bytes, size).unwrap(), frames, "{size}");
        }
    }

    #[test]
    fn what_no_frame_may_be_is_refused() {
        let bad = [
            frame(1, Kind::Data, b""),
            frame(0, Kind::Data, b"x"),
            frame(1, Kind::Ping, &[0; 8]),
            frame(1, Kind::Fin, b"x"),
            frame(1, Kind::Credit, b"xyz"),
            frame(1, Kind::Open, &[0; LONGEST_CONTROL + 1]),
            vec![0, 0, 0, 1, 100, 0, 0, 0],
            vec![0, 0, 0, 1, 200, 1, 0, 1],
        ];
        for bytes in bad {
            assert!(read(&bytes, 3).is_err(), "{:?}", &bytes[..8]);
        }
    }
}
