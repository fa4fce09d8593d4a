//! Just enough DER to put signed things together.

/// `ecdsa-with-SHA256` as an `AlgorithmIdentifier` (RFC 5758, section 3.2).
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

pub(crate) const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// One value with its tag and length.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match content.len() {
        short @ 0..128 => bytes.push(short as u8),
        _ => {
            bytes.push(0x80 | significant.len() as u8);
            bytes.extend(significant);
        }
    }
    bytes.extend(content);
    bytes
}

/// `SIGNED` (RFC 5280, section 4.1): what was signed, how, and the signature.
pub(crate) fn signed(content: &[u8], signature: &[u8]) -> Vec<u8> {
    let bits = value(BIT_STRING, &[&[0], signature].concat());
    value(SEQUENCE, &[content, ECDSA_SHA256, &bits].concat())
}

/// The first of the values in a `SIGNED`: what was signed, with tag and length.
pub(crate) fn content(signed: &[u8]) -> &[u8] {
    let inner = &signed[head(signed).0..];
    let (start, length) = head(inner);
    &inner[..start + length]
}

/// Where the content of a value starts and how long it is. For well-formed values only.
pub(crate) fn head(bytes: &[u8]) -> (usize, usize) {
    match bytes[1] {
        short @ 0..128 => (2, usize::from(short)),
        long => {
            let size = usize::from(long & 0x7f);
            (2 + size, bytes[2..2 + size].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    }
}
