//! A peer that writes whatever frames it is told to, and reads what comes.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

/// `:status: 200` in HPACK's static table.
const STATUS_200: &[u8] = &[0x88];

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Bytes,
}

pub(super) struct Raw<T>(pub(super) T);

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    pub(super) fn new(io: T) -> Self {
        Self(io)
    }

    /// Fails once the peer has closed the connection.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// The client's preface with empty SETTINGS.
    pub(super) async fn send_preface(&mut self) {
        self.write(PREFACE).await.unwrap();
        self.send_settings(&[]).await;
    }

    pub(super) async fn send_settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = BytesMut::new();
        for (id, value) in settings {
            payload.put_u16(*id);
            payload.put_u32(*value);
        }
        self.write(&frame(SETTINGS, 0, 0, &payload)).await.unwrap();
    }

    pub(super) async fn send_window_update(&mut self, stream: u32, more: u32) {
        self.write(&frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())).await.unwrap();
    }

    /// The next frame, `None` at the end of the connection.
    pub(super) async fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; size];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload: payload.into() })
    }

    /// The next frame of a kind; others are passed over.
    pub(super) async fn read_kind(&mut self, kind: u8) -> Option<Frame> {
        loop {
            match self.read_frame().await? {
                frame if frame.kind == kind => return Some(frame),
                _ => {}
            }
        }
    }

    /// As a server, takes the client's preface and answers its first request with 200.
    pub(super) async fn answer_next_request(&mut self) -> u32 {
        let mut preface = [0; 24];
        self.0.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let request = self.read_kind(HEADERS).await.unwrap();
        self.write(&frame(HEADERS, END_HEADERS, request.stream, STATUS_200)).await.unwrap();
        request.stream
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are not indexed (RFC 7541, section 6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        put_string(&mut bytes, name);
        put_string(&mut bytes, value);
    }
    bytes
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
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

/// A whole HEADERS frame of a request for a connection.
pub(super) fn connect(stream: u32, authority: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[(":method", "CONNECT"), (":authority", authority)]))
}
