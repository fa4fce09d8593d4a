//! One direction's key: seals or opens single records in place (RFC 8446, sections 5.2 and 5.3).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, Error};

use crate::runtime::records::{HEAD, MOST, TAIL};

/// How often one key is used before it is replaced. AES-GCM stays safe for 2^24.5 records of full size (RFC 8446, section 5.5).
pub(super) const KEY_USES: u64 = 1 << 24;

/// The length of an authentication tag, in bytes.
pub(super) const TAG: usize = 16;

/// What a record carries (RFC 8446, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ContentType {
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
}

impl ContentType {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Alert, Self::Handshake, Self::ApplicationData].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One direction's key and the number of the next record.
pub(super) struct Cipher {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

/// Why a record cannot be taken; each is fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRecord {
    /// Not sealed with the peer's key, or not in its place: changed, replayed, or lost on the way.
    Tag,
    /// More plain text than a record may have.
    Overflow,
    /// Nothing but padding, or a type that does not belong here.
    Type,
}

impl Cipher {
    /// # Errors
    /// When the suite is none of those that the handshake offers.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list grows; two suites are offered")]
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => {
                return Err(Error::General("a cipher suite that was not offered".into()));
            }
        };
        let unusable = |_| Error::General("the key schedule gave a key of the wrong length".into());
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(unusable)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::General("a nonce of the wrong length".into()))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// How many records went through this key.
    pub(super) fn uses(&self) -> u64 {
        self.sequence
    }

    /// Seals a record that lies between room for its head and tail, with `length` bytes of plain text.
    ///
    /// # Panics
    /// When `record` has another size, or after [`KEY_USES`] by far, which the owner prevents by replacing the key.
    pub(super) fn seal(&mut self, record: &mut [u8], length: usize, kind: ContentType) {
        assert_eq!(record.len(), HEAD + length + TAIL, "a record without its room");
        let (head, body) = record.split_at_mut(HEAD);
        head.copy_from_slice(&header(length + TAIL));
        body[length] = kind as u8;
        let (text, tag) = body.split_at_mut(length + 1);
        let nonce = self.next_nonce();
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(&*head), text);
        tag.copy_from_slice(sealed.expect("a record is shorter than AES-GCM's limit").as_ref());
    }

    /// Opens a record's body in place; gives the type and the length of the plain text at its beginning.
    pub(super) fn open(&mut self, head: [u8; HEAD], body: &mut [u8]) -> Result<(ContentType, usize), BadRecord> {
        let nonce = self.next_nonce();
        let text = self.key.open_in_place(nonce, Aad::from(head), body).map_err(|_| BadRecord::Tag)?;
        if text.len() > MOST + 1 {
            return Err(BadRecord::Overflow);
        }
        // Zeroes behind the type are padding.
        let at = text.iter().rposition(|&byte| byte != 0).ok_or(BadRecord::Type)?;
        let kind = ContentType::from_byte(text[at]).ok_or(BadRecord::Type)?;
        Ok((kind, at))
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1).expect("keys are replaced long before");
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The header of a sealed record: what goes for application data of TLS 1.2, and its length.
fn header(length: usize) -> [u8; HEAD] {
    let [high, low] = u16::try_from(length).expect("a record fits").to_be_bytes();
    [ContentType::ApplicationData as u8, 3, 3, high, low]
}
