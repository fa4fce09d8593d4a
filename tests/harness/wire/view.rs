//! A finished capture, and what tests claim about it.

use std::net::{IpAddr, SocketAddr};

use super::marker::Marker;
use super::pcap::{Content, Frame};
use super::streams::{self, Stream};

/// Protocol numbers of ICMP and ICMPv6, which the kernel itself sends.
const ICMP: [u8; 2] = [1, 58];

/// Everything that was on the wire during a capture.
#[derive(Clone, Debug)]
pub struct Wire {
    frames: Vec<Frame>,
    streams: Vec<Stream>,
    beacon: SocketAddr,
}

/// A place where (a piece of) a marker was found in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Who sent it, if it was in an IP packet.
    pub source: Option<IpAddr>,
    /// To whom.
    pub destination: Option<IpAddr>,
    /// How many bytes of the marker.
    pub length: usize,
}

impl Wire {
    pub(crate) fn new(frames: Vec<Frame>, beacon: SocketAddr) -> Self {
        let segments = frames.iter().filter_map(|frame| match &frame.content {
            Content::Tcp(segment) => Some(segment),
            Content::Ip(..) | Content::Other => None,
        });
        let streams = streams::assemble(segments);
        Self { frames, streams, beacon }
    }

    /// Every direction of every TCP connection, in the order they began. Those that carried nothing are among them.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The streams between two addresses that carried something, in both directions.
    pub fn between(&self, one: IpAddr, other: IpAddr) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(move |s| {
            let ends = (s.source.ip(), s.destination.ip());
            !s.is_empty() && (ends == (one, other) || ends == (other, one))
        })
    }

    /// Where the marker, or a piece of it, is in clear: in a TCP stream, also across segments, or in any other frame.
    #[must_use]
    pub fn find(&self, marker: &Marker) -> Vec<Hit> {
        let in_streams = self.streams.iter().flat_map(|stream| {
            let found = stream.pieces.iter().flat_map(|piece| marker.pieces_in(piece));
            found.map(|(_, length)| Hit {
                source: Some(stream.source.ip()),
                destination: Some(stream.destination.ip()),
                length,
            })
        });
        let in_frames = self.frames.iter().flat_map(|frame| {
            let (source, destination) = match &frame.content {
                // Found above.
                Content::Tcp(_) => return Vec::new(),
                Content::Ip(source, destination, _) => (Some(*source), Some(*destination)),
                Content::Other => (None, None),
            };
            let found = marker.pieces_in(&frame.bytes).into_iter();
            found.map(|(_, length)| Hit { source, destination, length }).collect()
        });
        in_streams.chain(in_frames).collect()
    }

    /// Claims that the whole marker crossed in clear: shows that the capture is able to see it.
    #[track_caller]
    pub fn assert_clear_text_seen(&self, marker: &Marker) {
        let hits = self.find(marker);
        let whole = hits.iter().any(|hit| hit.length == marker.as_str().len());
        assert!(whole, "the marker {marker} is not on the wire: {hits:?}\n{self}");
    }

    /// Claims that no piece of the marker crossed in clear.
    #[track_caller]
    pub fn assert_never_in_clear(&self, marker: &Marker) {
        let hits = self.find(marker);
        assert!(hits.is_empty(), "the marker {marker} crossed in clear: {hits:?}\n{self}");
    }

    /// Claims that every byte of payload that crossed is part of a TLS record: not one byte was in clear.
    #[track_caller]
    pub fn assert_only_tls(&self) {
        let problems: Vec<String> = self.clear_text();
        assert!(problems.is_empty(), "not only TLS crossed:\n{}\n{self}", problems.join("\n"));
    }

    /// Claims that something crossed and that all of it was TLS 1.3.
    #[track_caller]
    pub fn assert_tls13(&self) {
        self.assert_only_tls();
        let from_start = |s: &&Stream| s.from_start && !s.is_empty();
        assert!(self.streams.iter().filter(from_start).count() > 0, "no connection was opened\n{self}");
        for stream in self.streams.iter().filter(from_start) {
            let answer = self.streams.iter().find(|s| (s.source, s.destination) == (stream.destination, stream.source));
            let agreed = stream.chooses_tls13() || answer.is_some_and(Stream::chooses_tls13);
            assert!(agreed, "{} -> {} is not TLS 1.3\n{self}", stream.source, stream.destination);
        }
    }

    /// Claims that no TCP segment and no other payload crossed.
    #[track_caller]
    pub fn assert_silent(&self) {
        let foreign = self.foreign_packets();
        assert!(self.streams.is_empty() && foreign.is_empty(), "something crossed: {foreign:?}\n{self}");
    }

    /// Each stream that is not TLS throughout, and each packet that is neither TCP nor ICMP.
    fn clear_text(&self) -> Vec<String> {
        let streams = self.streams.iter().filter_map(|stream| stream.check_only_tls().err());
        streams.chain(self.foreign_packets()).collect()
    }

    fn foreign_packets(&self) -> Vec<String> {
        let packets = self.frames.iter().filter_map(|frame| match &frame.content {
            Content::Ip(source, destination, protocol)
                if !ICMP.contains(protocol) && *destination != self.beacon.ip() && !destination.is_multicast() =>
            {
                Some(format!("protocol {protocol}, {source} -> {destination}"))
            }
            Content::Tcp(_) | Content::Ip(..) | Content::Other => None,
        });
        packets.collect()
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} frames, {} streams:", self.frames.len(), self.streams.len())?;
        for stream in &self.streams {
            let kind = if stream.is_tls() { "TLS" } else { "   " };
            let first = stream.first_bytes(32).escape_ascii();
            writeln!(f, "  {kind} {} -> {} {} bytes {first}", stream.source, stream.destination, stream.len())?;
        }
        Ok(())
    }
}
