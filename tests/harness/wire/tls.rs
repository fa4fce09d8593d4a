//! Tells TLS from clear text by structure (RFC 8446, section 5.1), without keys.

/// The version number of TLS 1.3.
pub(crate) const TLS13: u16 = 0x0304;

/// The longest encrypted record: 2^14 bytes and 256 of expansion.
const MAX_RECORD: usize = (1 << 14) + 256;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// The extension in which a TLS 1.3 server names the version that it chose.
const SUPPORTED_VERSIONS: u16 = 43;

/// Checks that `stream` is a sequence of TLS records from its first byte to its last. A record that is cut short is fine
/// only where the stream has not `ended`. After the first encrypted record all must be.
///
/// # Errors
/// With the offset of the first byte that is no TLS.
pub(crate) fn check_records(stream: &[u8], ended: bool) -> Result<(), String> {
    let mut at = 0;
    let mut encrypted = false;
    while at < stream.len() {
        let rest = &stream[at..];
        let wrong =
            || Err(format!("no TLS record at byte {at}: {:?}", String::from_utf8_lossy(&rest[..rest.len().min(40)])));
        let type_is_fine = match rest[0] {
            APPLICATION_DATA => true,
            HANDSHAKE | CHANGE_CIPHER_SPEC | ALERT => !encrypted,
            _ => false,
        };
        let version_is_fine =
            rest.get(1).is_none_or(|major| *major == 3) && rest.get(2).is_none_or(|minor| *minor <= 4);
        if !type_is_fine || !version_is_fine {
            return wrong();
        }
        encrypted |= rest[0] == APPLICATION_DATA;
        let length = rest.get(3..5).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
        match length {
            Some(length) if length == 0 || length > MAX_RECORD => return wrong(),
            Some(length) if 5 + length <= rest.len() => at += 5 + length,
            _ if ended => return Err(format!("the stream ends within the record at byte {at}")),
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The version that a ServerHello at the start of `stream` chooses.
pub(crate) fn chosen_version(stream: &[u8]) -> Option<u16> {
    let mut hello = Reader(stream);
    // Record: type, version, length. Handshake message: type 2, length of three bytes.
    let record = hello.take(5)?;
    let message = hello.take(4)?;
    if (record[0], message[0]) != (HANDSHAKE, 2) {
        return None;
    }
    let legacy = hello.number()?;
    hello.take(32)?;
    let session = hello.take(1)?[0];
    // Session id, cipher suite, compression method.
    hello.take(usize::from(session) + 3)?;
    let length = hello.number()?;
    let mut extensions = Reader(hello.take(usize::from(length))?);
    while let Some(kind) = extensions.number() {
        let length = extensions.number()?;
        let mut body = Reader(extensions.take(usize::from(length))?);
        if kind == SUPPORTED_VERSIONS {
            return body.number();
        }
    }
    Some(legacy)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: usize) -> Vec<u8> {
        let mut record = vec![kind, 3, 3];
        record.extend((length as u16).to_be_bytes());
        record.resize(5 + length, 0xee);
        record
    }

    #[test]
    fn records_without_anything_between_are_tls() {
        let good = [record(22, 90), record(20, 1), record(23, 500), record(23, 16_640)].concat();
        assert_eq!(check_records(&good, true), Ok(()));
        assert_eq!(check_records(&good[..300], false), Ok(()), "still being sent");
        assert!(check_records(&good[..300], true).is_err(), "cut off");
        assert_eq!(check_records(&[], true), Ok(()));
    }

    #[test]
    fn a_single_clear_byte_is_found_wherever_it_stands() {
        let records = [record(22, 90), record(23, 500), record(23, 30)];
        for position in 0..=records.len() {
            let mut parts = records.to_vec();
            parts.insert(position, vec![b'x']);
            assert!(check_records(&parts.concat(), false).is_err(), "before record {position}");
        }
    }

    #[test]
    fn what_only_looks_like_tls_is_not() {
        let check = |bytes: &[u8]| assert!(check_records(bytes, false).is_err(), "{bytes:?}");
        check(b"GET / HTTP/1.1\r\n");
        check(&[record(23, 20), record(22, 20)].concat());
        check(&record(23, 0));
        check(&record(23, MAX_RECORD + 1));
        check(&[23, 2, 0]);
        check(&[24]);
    }

    #[test]
    fn the_server_names_the_version() {
        let mut hello = vec![22, 3, 3, 0, 0, 2, 0, 0, 0, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0x13, 0x01, 0]);
        let tls12 = [hello.clone(), vec![0, 0]].concat();
        let tls13 = [hello, vec![0, 10, 0, 51, 0, 0, 0, 43, 0, 2, 3, 4]].concat();
        assert_eq!(chosen_version(&tls13), Some(TLS13));
        assert_eq!(chosen_version(&tls12), Some(0x0303));
        assert_eq!(chosen_version(&tls13[..50]), None);
        assert_eq!(chosen_version(b"HTTP/1.1 200 OK"), None);
    }
}
