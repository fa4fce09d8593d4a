//! Plain text on its way into sealed records, laid out so that sealing needs no copy.
//!
//! A [`Batch`] is a row of records in one buffer. Whoever has something to say (a tunnel) writes plain text into it, often
//! straight from a socket; whoever seals ([`Records`]) fills in what stands around the plain text and sends the whole row
//! with one system call.
//!
//! ```text
//! │ head │ plain text, up to 16 KiB │ tail │ head │ plain text … │ tail │  free …
//! ```

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::task::{Context, Poll};

/// Room for a record's header (RFC 8446, section 5.2), in bytes.
pub const HEAD: usize = 5;

/// Room for the content type and the tag behind the plain text, in bytes.
pub const TAIL: usize = 17;

/// The most plain text in one record, in bytes (RFC 8446, section 5.1).
pub const MOST: usize = 16 * 1024;

/// Records in a batch.
const SLOTS: usize = 8;

const SLOT: usize = HEAD + MOST + TAIL;

/// What is left of a record is not worth beginning something of unknown size in, in bytes.
const WORTHWHILE: usize = 2048;

/// Batches that a thread keeps for later: a thread has few tunnels that send at the same moment.
const SPARE_BATCHES: usize = 4;

/// What one receive may bring, in bytes.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static RECEIVED: RefCell<Received> = RefCell::new(Received::new());
}

/// A connection that carries sealed records.
pub trait Records {
    /// Receives what is there and opens it. Ready with `false` once the peer has closed in order.
    ///
    /// # Errors
    /// When the connection broke, or what came was not sealed by the peer. Nothing more can be received then.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut Received) -> Poll<io::Result<bool>>;

    /// Seals and sends a batch, then whatever the record layer has to say itself. Ready when all of it is with the kernel.
    /// The batch must be given again until then.
    ///
    /// # Errors
    /// When the connection broke.
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: Option<&mut Batch>) -> Poll<io::Result<()>>;

    /// Says that nothing more comes, after what was sent, and closes the connection.
    ///
    /// # Errors
    /// When the connection broke.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What was received last. The thread's tunnels share one: it is used up before the next receives.
#[derive(Debug)]
pub struct Received {
    /// As it came, opened in place.
    pub bytes: Box<[u8]>,
    /// Where plain text lies in it, in the order in which it was sent.
    pub pieces: Vec<Range<usize>>,
}

impl Received {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; SCRATCH].into_boxed_slice(), pieces: Vec::new() }
    }

    /// Runs `work` with the thread's own.
    ///
    /// # Panics
    /// When `work` comes back here.
    pub fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        RECEIVED.with_borrow_mut(work)
    }
}

impl Default for Received {
    fn default() -> Self {
        Self::new()
    }
}

/// A row of records. See the module.
#[derive(Debug)]
pub struct Batch {
    bytes: Box<[u8]>,
    records: Vec<Record>,
    sealed: bool,
    sent: usize,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where its header begins.
    pub at: usize,
    /// How much plain text it has.
    pub length: usize,
}

impl Record {
    /// Behind its tail.
    #[must_use]
    pub fn end(self) -> usize {
        self.at + HEAD + self.length + TAIL
    }

    fn plain_end(self) -> usize {
        self.at + HEAD + self.length
    }
}

/// Places in a batch that a socket may be read into.
#[derive(Debug)]
pub struct Room {
    places: [Range<usize>; SLOTS],
    number: usize,
    continues: bool,
}

impl Batch {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let bytes = SPARE.with_borrow_mut(Vec::pop);
        let bytes = bytes.unwrap_or_else(|| vec![0; SLOTS * SLOT].into_boxed_slice());
        Self { bytes, records: Vec::with_capacity(SLOTS), sealed: false, sent: 0 }
    }

    /// Its records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How much plain text is in it, in bytes.
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.records.iter().map(|record| record.length).sum()
    }

    /// Whether anything is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether nothing can be added any more.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Adds as much of `text` as there is room for, in as many records as that takes, and says how much.
    pub fn fill(&mut self, text: &[u8]) -> usize {
        let Some(room) = self.room(0, text.len(), SLOTS) else { return 0 };
        let mut taken = 0;
        for mut slice in self.slices(&room) {
            let part = slice.len();
            slice.copy_from_slice(&text[taken..taken + part]);
            taken += part;
        }
        self.commit(&room, taken, |_| []);
        taken
    }

    /// Finds places for at most `most` bytes in at most `records` records, each with room for `head` bytes before it. `None`
    /// when the batch is full.
    #[must_use]
    pub fn room(&self, head: usize, most: usize, records: usize) -> Option<Room> {
        let mut room = Room { places: Default::default(), number: 0, continues: false };
        if self.sealed {
            return None;
        }
        let mut left = most;
        let mut at = self.end();
        if let Some(last) = self.last().filter(|last| self.spare(*last) >= WORTHWHILE) {
            room.continues = true;
            at = last.at;
            left = room.place(self.bytes.len(), last.plain_end() + head, self.spare(last) - head, left);
            at += SLOT;
        }
        while left > 0 && room.number < records.min(SLOTS) && at + HEAD + head + WORTHWHILE + TAIL <= self.bytes.len() {
            left = room.place(self.bytes.len(), at + HEAD + head, MOST - head, left);
            at += SLOT;
        }
        (room.number > 0).then_some(room)
    }

    /// The places, to be read into from the first to the last.
    pub fn slices<'a>(&'a mut self, room: &Room) -> impl Iterator<Item = IoSliceMut<'a>> {
        let mut rest = &mut *self.bytes;
        let mut consumed = 0;
        room.places.clone().into_iter().take(room.number).map(move |place| {
            let (_, after) = std::mem::take(&mut rest).split_at_mut(place.start - consumed);
            let (slice, after) = after.split_at_mut(place.len());
            consumed = place.end;
            rest = after;
            IoSliceMut::new(slice)
        })
    }

    /// The first of the places.
    pub fn first_slice(&mut self, room: &Room) -> &mut [u8] {
        &mut self.bytes[room.places[0].clone()]
    }

    /// Says that `filled` bytes are there now; `head` writes what belongs before each part of them.
    pub fn commit<const N: usize>(&mut self, room: &Room, filled: usize, mut head: impl FnMut(usize) -> [u8; N]) {
        let mut left = filled;
        for (index, place) in room.places[..room.number].iter().enumerate() {
            let part = left.min(place.len());
            if part == 0 {
                break;
            }
            left -= part;
            if index > 0 || !room.continues {
                self.begin();
            }
            self.bytes[place.start - N..place.start].copy_from_slice(&head(part));
            if let Some(last) = self.records.last_mut() {
                last.length += N + part;
            }
        }
    }

    /// The whole row, to be sealed; [`Self::unsent`] is what to send afterwards.
    pub fn seal(&mut self, mut seal: impl FnMut(&mut [u8], usize)) {
        self.sealed = true;
        for record in &self.records {
            seal(&mut self.bytes[record.at..record.end()], record.length);
        }
    }

    /// What is sealed and not yet sent.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..self.end()]
    }

    /// So much more of it has been sent.
    pub fn sent(&mut self, length: usize) {
        self.sent += length;
    }

    /// How much plain text still fits into a record, which may have the end of the batch behind it.
    fn spare(&self, record: Record) -> usize {
        (MOST - record.length).min(self.bytes.len().saturating_sub(record.end()))
    }

    fn begin(&mut self) {
        let at = self.end();
        self.records.push(Record { at, length: 0 });
    }

    fn last(&self) -> Option<Record> {
        self.records.last().copied()
    }

    fn end(&self) -> usize {
        self.last().map_or(0, Record::end)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // The thread may be ending.
        let _ending = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_BATCHES {
                spare.push(bytes);
            }
        });
    }
}

impl Room {
    /// How many places there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.number
    }

    /// Whether there is no place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.number == 0
    }

    /// How many bytes fit.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.places[..self.number].iter().map(Range::len).sum()
    }

    /// Adds a place and says how much is left to place.
    fn place(&mut self, end: usize, at: usize, size: usize, left: usize) -> usize {
        let size = size.min(left).min(end.saturating_sub(at + TAIL));
        self.places[self.number] = at..at + size;
        self.number += 1;
        left - size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(batch: &Batch) -> Vec<u8> {
        let text = |record: &Record| batch.bytes[record.at + HEAD..record.plain_end()].to_vec();
        batch.records().iter().flat_map(text).collect()
    }

    /// Fills `amount` bytes of the places with a running number and heads of the part's length.
    fn fill(batch: &mut Batch, room: &Room, amount: usize, next: &mut u8) {
        let mut left = amount;
        for mut slice in batch.slices(room) {
            let part = left.min(slice.len());
            for byte in &mut slice[..part] {
                *byte = *next;
                *next = next.wrapping_add(1);
            }
            left -= part;
        }
        assert_eq!(left, 0);
        batch.commit(room, amount, |part| (part as u32).to_be_bytes());
    }

    fn parts(mut text: &[u8]) -> (Vec<usize>, Vec<u8>) {
        let (mut lengths, mut all) = (Vec::new(), Vec::new());
        while let Some((head, rest)) = text.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            lengths.push(length);
            all.extend_from_slice(&rest[..length]);
            text = &rest[length..];
        }
        (lengths, all)
    }

    #[test]
    fn small_texts_share_a_record_and_large_ones_fill_them() {
        let mut batch = Batch::new();
        let mut next = 0;
        for amount in [10, 20, 40_000, 5, 60_000, 1] {
            let room = batch.room(4, amount, 8).unwrap();
            fill(&mut batch, &room, amount, &mut next);
        }
        let (lengths, all) = parts(&plain(&batch));
        assert_eq!(all.len(), 100_036);
        assert!(all.iter().enumerate().all(|(index, &byte)| byte == index as u8));
        assert_eq!(&lengths[..2], [10, 20]);
        for pair in batch.records().windows(2) {
            assert_eq!(pair[0].end(), pair[1].at);
            assert!(pair[0].length <= MOST);
        }
        assert!(batch.records().len() <= SLOTS, "{:?}", batch.records());
    }

    #[test]
    fn a_full_batch_says_so() {
        let mut batch = Batch::new();
        let mut next = 0;
        let mut amount = 0;
        while let Some(room) = batch.room(4, usize::MAX, 3) {
            let offered = room.bytes();
            fill(&mut batch, &room, offered, &mut next);
            amount += offered;
        }
        assert!(amount >= SLOTS * (MOST - 4), "{amount}");
        assert_eq!(batch.fill(&[0; 100]), 0);
        assert_eq!(parts(&plain(&batch)).1.len(), amount);
    }

    #[test]
    fn a_place_is_never_empty_however_the_batch_was_filled() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..300 {
            let (mut batch, mut next) = (Batch::new(), 0);
            while let Some(room) = batch.room(4, random.usize(1..40_000), random.usize(1..9)) {
                assert!(room.places[..room.number].iter().all(|place| !place.is_empty()), "{room:?}");
                let amount = random.usize(1..=room.bytes());
                fill(&mut batch, &room, amount, &mut next);
                // As when something small follows.
                batch.fill(&[0; 8]);
            }
        }
    }

    #[test]
    fn bytes_fill_record_after_record() {
        let mut batch = Batch::new();
        let text: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        let mut taken = batch.fill(&text[..100]);
        taken += batch.fill(&text[100..]);
        assert_eq!(plain(&batch), text[..taken]);
        assert!(taken > (SLOTS - 1) * MOST, "{taken}");
        assert_eq!(batch.fill(b""), 0);
    }

    #[test]
    fn buffers_are_used_again() {
        let first = Batch::new();
        let address = first.bytes.as_ptr();
        drop(first);
        assert_eq!(Batch::new().bytes.as_ptr(), address);
    }

    #[test]
    fn sealing_sees_every_record_with_the_room_around_it() {
        let mut batch = Batch::new();
        assert_eq!((batch.fill(b"one"), batch.fill(&[1; MOST]), batch.fill(b"two")), (3, MOST, 3));
        let mut seen = Vec::new();
        batch.seal(|record, length| seen.push((record.len(), length)));
        assert_eq!(seen, [(HEAD + MOST + TAIL, MOST), (HEAD + 6 + TAIL, 6)]);
        assert!(batch.is_sealed() && batch.fill(b"late") == 0);
        let all = batch.unsent().len();
        batch.sent(10);
        assert_eq!(batch.unsent().len(), all - 10);
    }
}
