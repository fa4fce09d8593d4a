//! HTTP/2 written byte by byte, as much of it as a hostile peer needs.

use std::io;

use super::intruder::Tls;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// One frame, as it was received.
#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The client's end of a connection.
pub(crate) struct Raw(Tls);

impl Raw {
    /// Begins as every client does.
    pub(crate) fn begin(mut tls: Tls) -> io::Result<Self> {
        tls.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())?;
        Ok(Self(tls))
    }

    /// The connection, to send anything else on it.
    pub(crate) fn into_tls(self) -> Tls {
        self.0
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.send(bytes)
    }

    /// Waits until the agent has ended the connection.
    #[track_caller]
    pub(crate) fn expect_end(&mut self, what: &str) {
        self.0.expect_end(what);
    }

    /// Asks for a connection and says what came back: the status, or `None` when the stream or the tunnel was broken.
    pub(crate) fn ask(&mut self, stream: u32, request: &[u8]) -> Option<u16> {
        self.send(request).ok()?;
        loop {
            let frame = self.read_frame()?;
            match frame.kind {
                HEADERS if frame.stream == stream => return Some(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return None,
                GOAWAY => return None,
                _ => {}
            }
        }
    }

    /// The next frame; `None` at the end of the connection, whatever ended it.
    fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload)?;
        let (kind, stream) = (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        if kind == SETTINGS && head[4] & ACK == 0 {
            // Without the answer the agent would find fault with that, and not with what the test is about.
            let _ = self.send(&frame(SETTINGS, ACK, 0, &[]));
        }
        Some(Frame { kind, stream, payload })
    }
}

/// The status of a response whose header block begins with it, as h2 writes it: indexed, or a literal of three digits.
fn status(block: &[u8]) -> u16 {
    // RFC 7541, appendix A, indices 8 to 14.
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
        // A literal with the name of index 8: its length, or Huffman-coded digits.
        [_, 0x03, digits @ ..] => std::str::from_utf8(&digits[..3]).ok().and_then(|d| d.parse().ok()).unwrap_or(0),
        _ => 599,
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are not indexed (RFC 7541, section 6.2.2). Values may have up to 16,000 bytes.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                bytes.push(length as u8);
            } else {
                bytes.push(127);
                length -= 127;
                while length >= 128 {
                    bytes.push((length % 128 + 128) as u8);
                    length /= 128;
                }
                bytes.push(length as u8);
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

pub(crate) fn connect(stream: u32, authority: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[(":method", "CONNECT"), (":authority", authority)]))
}
