//! TCP segments put back in order: what each side of each connection has said.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::pcap::Segment;
use super::tls;

/// One direction of one TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Who speaks.
    pub source: SocketAddr,
    /// Who listens.
    pub destination: SocketAddr,
    /// Whether the capture has its first byte.
    pub from_start: bool,
    /// Whether the speaker has ended it (FIN).
    pub ended: bool,
    /// The bytes in order; more than one piece only where the capture has a gap.
    pub pieces: Vec<Vec<u8>>,
}

impl Stream {
    /// The first `count` bytes, as far as they were captured.
    #[must_use]
    pub fn first_bytes(&self, count: usize) -> &[u8] {
        self.pieces.first().map_or(&[], |piece| &piece[..count.min(piece.len())])
    }

    /// How many bytes were captured.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the stream begins as TLS does.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.first_bytes(3), [22, 3, 0..=4])
    }

    /// Whether this side answered a handshake by choosing TLS 1.3.
    #[must_use]
    pub fn chooses_tls13(&self) -> bool {
        self.pieces.first().and_then(|bytes| tls::chosen_version(bytes)) == Some(tls::TLS13)
    }

    /// Checks that every byte is part of a TLS record, and every record after the handshake's encrypted.
    ///
    /// # Errors
    /// With the first byte that is not.
    pub fn check_only_tls(&self) -> Result<(), String> {
        self.check_records(self.ended)
    }

    /// The same for a speaker that may have been killed: its kernel then ends the stream anywhere.
    ///
    /// # Errors
    /// With the first byte that is not.
    pub fn check_only_tls_or_cut(&self) -> Result<(), String> {
        self.check_records(false)
    }

    fn check_records(&self, ended: bool) -> Result<(), String> {
        match self.pieces.as_slice() {
            [] => Ok(()),
            [piece] => tls::check_records(piece, ended),
            _ => Err("the capture has a gap".into()),
        }
        .map_err(|problem| format!("{} -> {}: {problem}", self.source, self.destination))
    }
}

/// Puts all streams together, in the order in which they began.
pub(crate) fn assemble<'a>(segments: impl Iterator<Item = &'a Segment>) -> Vec<Stream> {
    let mut building: Vec<Building<'a>> = Vec::new();
    let mut latest: HashMap<(SocketAddr, SocketAddr), usize> = HashMap::new();
    for segment in segments {
        let key = (segment.source, segment.destination);
        let known = latest.get(&key).copied().filter(|&index| !building[index].is_restarted_by(segment));
        let index = known.unwrap_or_else(|| {
            building.push(Building::new(segment));
            building.len() - 1
        });
        latest.insert(key, index);
        building[index].add(segment);
    }
    building.into_iter().map(Building::finish).collect()
}

struct Building<'a> {
    stream: Stream,
    /// The sequence number of the first byte, or of the first byte seen.
    base: u32,
    /// Distance from `base`, and what stands there.
    parts: Vec<(i32, &'a [u8])>,
}

impl<'a> Building<'a> {
    fn new(first: &Segment) -> Self {
        let stream = Stream {
            source: first.source,
            destination: first.destination,
            from_start: first.syn,
            ended: false,
            pieces: Vec::new(),
        };
        Self { stream, base: first.sequence.wrapping_add(u32::from(first.syn)), parts: Vec::new() }
    }

    /// Whether the segment opens another connection between the same addresses.
    fn is_restarted_by(&self, segment: &Segment) -> bool {
        segment.syn && !(self.stream.from_start && self.base == segment.sequence.wrapping_add(1))
    }

    fn add(&mut self, segment: &'a Segment) {
        self.stream.ended |= segment.fin;
        if !segment.payload.is_empty() {
            let start = segment.sequence.wrapping_add(u32::from(segment.syn));
            self.parts.push((start.wrapping_sub(self.base).cast_signed(), &segment.payload));
        }
    }

    fn finish(mut self) -> Stream {
        self.parts.sort_by_key(|(start, _)| *start);
        let mut next = self.parts.first().map_or(0, |(start, _)| i64::from(*start));
        if self.stream.from_start && next > 0 {
            // Something is missing before the first part: an empty piece, then the rest.
            self.stream.pieces.push(Vec::new());
            next = 0;
        }
        for (start, bytes) in self.parts {
            let start = i64::from(start);
            if self.stream.pieces.is_empty() || start > next {
                self.stream.pieces.push(Vec::new());
                next = start;
            }
            let known = usize::try_from(next - start).unwrap_or(0);
            if let (Some(new), Some(piece)) = (bytes.get(known..), self.stream.pieces.last_mut()) {
                piece.extend_from_slice(new);
                next += new.len() as i64;
            }
        }
        self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(sequence: u32, syn: bool, payload: &str) -> Segment {
        let (source, destination) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        Segment { source, destination, sequence, syn, fin: false, payload: payload.into() }
    }

    fn check(segments: &[Segment], expected: &[&[&str]]) {
        let streams = assemble(segments.iter());
        let found: Vec<Vec<String>> =
            streams.iter().map(|s| s.pieces.iter().map(|p| String::from_utf8(p.clone()).unwrap()).collect()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn segments_are_put_in_order_across_the_end_of_the_number_space() {
        let start = u32::MAX - 3;
        check(
            &[
                segment(start, true, ""),
                segment(start.wrapping_add(4), false, "def"),
                segment(start + 1, false, "abc"),
                segment(start + 2, false, "bc"),
                segment(start.wrapping_add(5), false, "efgh"),
            ],
            &[&["abcdefgh"]],
        );
    }

    #[test]
    fn gaps_split_and_a_new_handshake_begins_another_stream() {
        check(&[segment(10, true, ""), segment(11, false, "ab"), segment(20, false, "cd")], &[&["ab", "cd"]]);
        check(&[segment(10, true, ""), segment(12, false, "b")], &[&["", "b"]]);
        check(&[segment(10, true, ""), segment(10, true, ""), segment(11, false, "a")], &[&["a"]]);
        check(
            &[segment(10, true, ""), segment(11, false, "a"), segment(99, true, ""), segment(100, false, "b")],
            &[&["a"], &["b"]],
        );
        check(&[segment(50, false, "mid"), segment(53, false, "dle")], &[&["middle"]]);
    }
}
