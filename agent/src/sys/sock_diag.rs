//! Sockets of other processes, through the kernel's `sock_diag`: ending a connection, and asking what it has carried.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

// From `linux/netlink.h`, `linux/sock_diag.h` and `linux/inet_diag.h`.
const NETLINK_SOCK_DIAG: libc::c_int = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const INET_DIAG_INFO: u16 = 2;
const NO_COOKIE: u64 = u64::MAX;
const ANY_STATE: u32 = u32::MAX;

/// Lengths in bytes of a netlink header, a request, and the fixed part of an answer.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;

/// Where `struct inet_diag_msg` has `idiag_state`.
const STATE: usize = 1;

/// Where `struct tcp_info` has `tcpi_bytes_acked` and `tcpi_bytes_received`.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

/// The sockets of one network namespace.
#[derive(Debug)]
pub struct SockDiag(Socket);

/// One TCP socket.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Its number in the kernel, if it has to be this very one.
    pub cookie: Option<u64>,
}

/// What a connection has carried, in the numbers of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Bytes that the other end has acknowledged; its SYN and FIN count as one each.
    pub acknowledged: u64,
    /// Bytes that have arrived in order; the other end's FIN counts as one.
    pub received: u64,
    /// The socket's TCP state, in the kernel's numbers.
    pub state: u8,
}

impl SockDiag {
    /// Of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> io::Result<Self> {
        let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
        Ok(Self(Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, protocol)?))
    }

    /// Whether the kernel can end connections of others (`CONFIG_INET_DIAG_DESTROY`).
    ///
    /// # Errors
    /// When it does not even say.
    pub fn can_destroy(&mut self) -> io::Result<bool> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        match self.destroy(&Connection { local: nowhere, remote: nowhere, cookie: None }) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a connection as if by its own process: the other end gets a reset. `false`: there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn destroy(&mut self, connection: &Connection) -> io::Result<bool> {
        let mut buffer = [0; 512];
        let answer = self.ask(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, connection, &mut buffer)?;
        match answer.error {
            Some(0) => Ok(true),
            Some(libc::ENOENT) => Ok(false),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What a connection has carried so far; none if there is no such one.
    ///
    /// # Errors
    /// When the kernel refuses, or answers in an unknown form.
    pub fn carried(&mut self, connection: &Connection) -> io::Result<Option<Carried>> {
        let mut buffer = [0; 1024];
        let answer = self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, connection, &mut buffer)?;
        match answer.error {
            Some(libc::ENOENT) => Ok(None),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(carried(answer.body)),
        }
    }

    fn ask<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        connection: &Connection,
        buffer: &'a mut [u8],
    ) -> io::Result<Answer<'a>> {
        (&self.0).write_all(&request(kind, flags, connection))?;
        let length = (&self.0).read(buffer)?;
        answer(&buffer[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

struct Answer<'a> {
    /// The kernel's verdict, 0 for success, if this is one.
    error: Option<i32>,
    body: &'a [u8],
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, connection: &Connection) -> [u8; HEADER + REQUEST] {
    let Connection { local, remote, cookie } = connection;
    let mut message = Vec::with_capacity(HEADER + REQUEST);
    message.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 1 << (INET_DIAG_INFO - 1), 0]);
    message.extend(ANY_STATE.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    for ip in [local.ip(), remote.ip()] {
        let mut octets = [0; 16];
        match ip {
            IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => octets = v6.octets(),
        }
        message.extend(octets);
    }
    message.extend(0u32.to_ne_bytes());
    message.extend(cookie.unwrap_or(NO_COOKIE).to_ne_bytes());
    let mut whole = [0; HEADER + REQUEST];
    whole.copy_from_slice(&message);
    whole
}

/// Takes an answer apart; none if it is none.
fn answer(message: &[u8]) -> Option<Answer<'_>> {
    let kind = u16::from_ne_bytes(field(message, 4)?);
    let body = message.get(HEADER..)?;
    match kind {
        NLMSG_ERROR => Some(Answer { error: Some(-i32::from_ne_bytes(field(body, 0)?)), body }),
        SOCK_DIAG_BY_FAMILY => Some(Answer { error: None, body }),
        _ => None,
    }
}

/// Finds the numbers of a connection among the attributes of `struct inet_diag_msg`.
fn carried(body: &[u8]) -> Option<Carried> {
    let mut attributes = body.get(ANSWER..)?;
    let state = *body.get(STATE)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(field(attributes, 0)?));
        let kind = u16::from_ne_bytes(field(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if kind == INET_DIAG_INFO {
            let number = |at| field(value, at).map(u64::from_ne_bytes);
            return Some(Carried { acknowledged: number(BYTES_ACKED)?, received: number(BYTES_RECEIVED)?, state });
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: &str, remote: &str) -> Connection {
        Connection { local: local.parse().unwrap(), remote: remote.parse().unwrap(), cookie: Some(7) }
    }

    #[test]
    fn a_request_has_the_kernels_form() {
        let v4 = request(SOCK_DESTROY, 5, &connection("10.0.0.1:258", "10.0.0.2:772"));
        assert_eq!(v4[..20], [72, 0, 0, 0, 21, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 6, 2, 0]);
        assert_eq!(v4[20..32], [255, 255, 255, 255, 1, 2, 3, 4, 10, 0, 0, 1]);
        assert_eq!(v4[32..48], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        assert_eq!(v4[60..], [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        let v6 = request(SOCK_DIAG_BY_FAMILY, 1, &connection("[fd00::1]:1", "[fd00::2]:2"));
        assert_eq!((v6[16], v6[43], v6[59]), (10, 1, 2));
    }

    #[test]
    fn answers_are_taken_apart_and_torn_ones_are_none() {
        let mut refusal = vec![0; 36];
        refusal[4] = NLMSG_ERROR as u8;
        refusal[16..20].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        assert_eq!(answer(&refusal).and_then(|answer| answer.error), Some(libc::ENOENT));
        assert!(answer(&refusal[..18]).is_none());

        let mut body = vec![0; ANSWER];
        body[STATE] = 1;
        body.extend([8, 0, 1, 0, 9, 9, 9, 9]);
        let mut info = vec![0; 248];
        info[BYTES_ACKED..][..8].copy_from_slice(&300u64.to_ne_bytes());
        info[BYTES_RECEIVED..][..8].copy_from_slice(&40u64.to_ne_bytes());
        body.extend(252u16.to_ne_bytes());
        body.extend(INET_DIAG_INFO.to_ne_bytes());
        body.extend(info);
        assert_eq!(carried(&body), Some(Carried { acknowledged: 300, received: 40, state: 1 }));
        for length in 0..body.len() {
            assert_eq!(carried(&body[..length]), None, "{length}");
        }
        // An attribute of no length must not be looked at for ever.
        assert_eq!(carried(&[0; ANSWER + 8]), None);
    }
}
