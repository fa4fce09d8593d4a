//! `sotto/1` written byte by byte (`agent/src/drivers/tunnel/mux/PROTOCOL.md`), with the numbers of the document and not the
//! agent's code: a mistake in that would be made on both sides.

use std::io;

use super::intruder::Tls;

pub(crate) const DATA: u8 = 0;
pub(crate) const OPEN: u8 = 1;
pub(crate) const ACCEPT: u8 = 2;
pub(crate) const REFUSE: u8 = 3;
pub(crate) const FIN: u8 = 4;
pub(crate) const RESET: u8 = 5;
pub(crate) const CREDIT: u8 = 6;
pub(crate) const HELLO: u8 = 7;
pub(crate) const PING: u8 = 8;
pub(crate) const GOAWAY: u8 = 10;
/// May be ignored by whoever does not know it.
pub(crate) const EXTENSION: u8 = 200;

/// Fields.
pub(crate) const AUTHORITY: u8 = 1;
pub(crate) const BAGGAGE: u8 = 2;
const STATUS: u8 = 5;

/// Reasons (RFC 9113, section 7).
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// What each direction of a stream begins with, in bytes.
pub(crate) const FIRST_CREDIT: usize = 262_144;

/// One frame, as it was received.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The number at the end of RESET and GOAWAY.
    pub(crate) fn reason(&self) -> u32 {
        self.payload.last_chunk().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes))
    }
}

/// What became of a request for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    /// With this status.
    Refused(u16),
    /// For this reason.
    Reset(u32),
    /// The tunnel has ended.
    Ended,
}

/// The client's end of a tunnel.
pub(crate) struct Raw(pub(crate) Tls);

impl Raw {
    /// Begins as every client does.
    pub(crate) fn begin(mut tls: Tls) -> io::Result<Self> {
        tls.send(&hello())?;
        Ok(Self(tls))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.send(bytes)
    }

    /// The next frame; `None` at the end of the connection, whatever ended it.
    pub(crate) fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 8];
        self.0.read_exact(&mut head)?;
        let [a, b, c, d, kind, e, f, g] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, e, f, g]) as usize];
        self.0.read_exact(&mut payload)?;
        Some(Frame { kind, stream: u32::from_be_bytes([a, b, c, d]), payload })
    }

    /// The next frame of a kind; others are passed over.
    pub(crate) fn read_kind(&mut self, kind: u8) -> Option<Frame> {
        loop {
            match self.read_frame()? {
                frame if frame.kind == kind => return Some(frame),
                _ => {}
            }
        }
    }

    /// Asks for a connection and says what came back. What comes for other streams is passed over.
    pub(crate) fn ask(&mut self, stream: u32, request: &[u8]) -> Answer {
        if self.send(request).is_err() {
            return Answer::Ended;
        }
        self.answer(stream)
    }

    /// What a request is answered with that was made before.
    pub(crate) fn answer(&mut self, stream: u32) -> Answer {
        while let Some(frame) = self.read_frame() {
            match frame.kind {
                ACCEPT if frame.stream == stream => return Answer::Accepted,
                REFUSE if frame.stream == stream => return Answer::Refused(status(&frame.payload)),
                RESET if frame.stream == stream => return Answer::Reset(frame.reason()),
                GOAWAY => return Answer::Ended,
                _ => {}
            }
        }
        Answer::Ended
    }

    /// Sends in a stream and takes the same back, to show that it works.
    #[track_caller]
    pub(crate) fn exchange(&mut self, stream: u32, text: &[u8]) {
        self.send(&frame(stream, DATA, text)).expect("the tunnel takes data");
        let mut answer = Vec::new();
        while answer.len() < text.len() {
            let frame = self.read_frame().expect("the tunnel goes on");
            if (frame.kind, frame.stream) == (DATA, stream) {
                answer.extend(frame.payload);
            }
        }
        assert_eq!(answer, text);
    }

    /// Waits until the agent has ended the tunnel for a violation, and said so.
    #[track_caller]
    pub(crate) fn expect_expelled(&mut self, what: &str) {
        let goaway = self.read_kind(GOAWAY).unwrap_or_else(|| panic!("{what}: the tunnel ended without a word"));
        assert_eq!(goaway.reason(), ENHANCE_YOUR_CALM, "{what}");
        self.0.expect_end(what);
    }
}

fn status(mut fields: &[u8]) -> u16 {
    while let [tag, high, low, rest @ ..] = fields {
        let (value, next) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if let (&STATUS, &[high, low]) = (tag, value) {
            return u16::from_be_bytes([high, low]);
        }
        fields = next;
    }
    0
}

pub(crate) fn frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&stream.to_be_bytes()[..], &[kind], &length[1..], payload].concat()
}

pub(crate) fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short field").to_be_bytes();
    [&[tag][..], &length, value].concat()
}

pub(crate) fn hello() -> Vec<u8> {
    frame(0, HELLO, &[])
}

pub(crate) fn open(stream: u32, authority: &str) -> Vec<u8> {
    frame(stream, OPEN, &field(AUTHORITY, authority.as_bytes()))
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(stream, RESET, &CANCEL.to_be_bytes())
}
