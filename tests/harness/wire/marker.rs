//! A text that occurs nowhere by chance, so that finding a piece of it means something leaked.

use std::collections::HashSet;
use std::fmt;

/// The shortest piece of a marker that counts as found. Six given bytes occur in a gigabyte of cipher text with a
/// probability of one in 280,000.
const PIECE: usize = 6;

/// How many characters a marker has.
const LENGTH: usize = 48;

/// A random text of letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker(String);

impl Marker {
    /// A marker that nobody has used before.
    #[must_use]
    pub fn new() -> Self {
        Self(std::iter::repeat_with(fastrand::alphanumeric).take(LENGTH).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text with a line feed.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}\n", self.0)
    }

    /// Where in `bytes` pieces of the marker stand, each as offset and length.
    pub(crate) fn pieces_in(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let pieces: HashSet<&[u8]> = self.0.as_bytes().windows(PIECE).collect();
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (offset, window) in bytes.windows(PIECE).enumerate() {
            if !pieces.contains(window) {
                continue;
            }
            match found.last_mut() {
                Some((start, length)) if offset <= *start + *length => *length = offset + PIECE - *start,
                _ => found.push((offset, PIECE)),
            }
        }
        found
    }
}

impl Default for Marker {
    fn default() -> Self {
        Self::new()
    }
}

impl AsRef<[u8]> for Marker {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_markers_and_pieces_are_found() {
        let marker = Marker::new();
        let (head, tail) = (&marker.as_str()[..20], &marker.as_str()[43..]);
        assert_eq!(marker.pieces_in(format!("..{marker}..").as_bytes()), [(2, LENGTH)]);
        assert_eq!(marker.pieces_in(format!("{head}--").as_bytes()), [(0, 20)]);
        assert_eq!(marker.pieces_in(tail.as_bytes()), [], "five bytes may be chance");
        assert_eq!(marker.pieces_in(b""), []);
    }
}
