//! Watches HTTP/2 frames go by, in pieces of any size: their heads, and the few payload bytes that matter. Pure.

/// The client's connection preface (RFC 9113, section 3.4), in bytes.
const PREFACE: usize = 24;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Something that was seen on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The head of a DATA frame of this many bytes, padding included.
    Data(u32),
    /// The connection window grew by this many bytes.
    Window(u32),
    /// SETTINGS, not their acknowledgement.
    Settings,
    /// GOAWAY
    GoAway,
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub struct Scanner {
    /// How much of the preface is still to come.
    preface: usize,
    head: [u8; 9],
    /// How much of `head` is filled; a full head means that its payload is going by.
    filled: usize,
    /// How much of the payload is still to come.
    remaining: u32,
    /// The last four bytes of the payload.
    tail: [u8; 4],
    blocks: u64,
    in_block: bool,
}

impl Scanner {
    /// For the direction from client to server, which begins with a preface.
    #[must_use]
    pub fn of_client() -> Self {
        Self { preface: PREFACE, ..Self::of_server() }
    }

    /// For the direction from server to client.
    #[must_use]
    pub fn of_server() -> Self {
        Self { preface: 0, head: [0; 9], filled: 0, remaining: 0, tail: [0; 4], blocks: 0, in_block: false }
    }

    /// The number of the header block that has begun and not ended.
    #[must_use]
    pub fn open_block(&self) -> Option<u64> {
        self.in_block.then_some(self.blocks)
    }

    /// Looks at the bytes that come next and hands what matters to `seen`. How they are cut makes no difference.
    pub fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Seen)) {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.filled < self.head.len() {
                let taken = (self.head.len() - self.filled).min(bytes.len());
                self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled == self.head.len() {
                    self.begin(&mut seen);
                }
            } else {
                let taken = bytes.len().min(self.remaining as usize);
                self.keep_tail(&bytes[..taken]);
                self.remaining -= u32::try_from(taken).unwrap_or(self.remaining);
                bytes = &bytes[taken..];
            }
            if self.filled == self.head.len() && self.remaining == 0 {
                self.end(&mut seen);
            }
        }
    }

    fn kind(&self) -> u8 {
        self.head[3]
    }

    fn has(&self, flag: u8) -> bool {
        self.head[4] & flag != 0
    }

    fn begin(&mut self, seen: &mut impl FnMut(Seen)) {
        self.remaining = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
        match self.kind() {
            DATA => seen(Seen::Data(self.remaining)),
            SETTINGS if !self.has(ACK) => seen(Seen::Settings),
            GOAWAY => seen(Seen::GoAway),
            HEADERS | PUSH_PROMISE => {
                self.blocks += 1;
                self.in_block = true;
            }
            _ => {}
        }
    }

    fn keep_tail(&mut self, payload: &[u8]) {
        if self.kind() == WINDOW_UPDATE {
            for byte in payload.iter().rev().take(4).rev() {
                self.tail.rotate_left(1);
                self.tail[3] = *byte;
            }
        }
    }

    fn end(&mut self, seen: &mut impl FnMut(Seen)) {
        self.filled = 0;
        let whole_connection = u32::from_be_bytes([self.head[5], self.head[6], self.head[7], self.head[8]]) << 1 == 0;
        match self.kind() {
            WINDOW_UPDATE if whole_connection => seen(Seen::Window(u32::from_be_bytes(self.tail) & (u32::MAX >> 1))),
            HEADERS | PUSH_PROMISE | CONTINUATION if self.has(END_HEADERS) => self.in_block = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Whatever the pieces, the same is seen.
    fn check(bytes: &[u8], expected: &[Seen], open_block: Option<u64>) {
        for size in [1, 2, 3, 7, 10, bytes.len()] {
            let mut scanner = Scanner::of_client();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                scanner.scan(piece, |one| seen.push(one));
            }
            assert_eq!(seen, expected, "in pieces of {size}");
            assert_eq!(scanner.open_block(), open_block, "in pieces of {size}");
        }
    }

    fn conversation(frames: &[Vec<u8>]) -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat()].concat()
    }

    #[test]
    fn what_matters_is_seen() {
        let frames = [
            frame(SETTINGS, 0, 0, &[0; 12]),
            frame(SETTINGS, ACK, 0, &[]),
            frame(WINDOW_UPDATE, 0, 0, &0x8001_0203_u32.to_be_bytes()),
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]),
            frame(DATA, 0, 1, &[8; 300]),
            frame(DATA, 1, 1, &[]),
            frame(0x77, 0xff, 5, &[7; 20]),
            frame(GOAWAY, 0, 0, &[0; 8]),
        ];
        let expected = [Seen::Settings, Seen::Window(0x0001_0203), Seen::Data(300), Seen::Data(0), Seen::GoAway];
        check(&conversation(&frames), &expected, None);
    }

    #[test]
    fn an_unfinished_header_block_is_known() {
        let begun = frame(HEADERS, 0, 1, &[1, 2, 3]);
        let more = frame(CONTINUATION, 0, 1, &[4]);
        let last = frame(CONTINUATION, END_HEADERS, 1, &[]);
        let whole = frame(HEADERS, END_HEADERS, 3, &[1, 2, 3]);
        check(&conversation(std::slice::from_ref(&begun)), &[], Some(1));
        check(&conversation(&[begun.clone(), more.clone()]), &[], Some(1));
        check(&conversation(&[begun, more, last.clone()]), &[], None);
        check(&conversation(std::slice::from_ref(&whole)), &[], None);
        check(&conversation(&[whole.clone(), whole[..11].to_vec()]), &[], Some(2));
        check(&conversation(&[last]), &[], None);
    }
}
