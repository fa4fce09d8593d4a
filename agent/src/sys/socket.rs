//! Socket options and set-up that neither `std` nor `socket2` offers.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// A non-blocking TCP socket of the family of `like`, in the calling thread's network namespace.
///
/// # Errors
/// When the process or the machine has no descriptor left, or the family is off.
pub fn tcp_socket(like: IpAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(SocketAddr::new(like, 0)), Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

/// Begins to connect a non-blocking socket, and says whether the other side has answered already.
///
/// # Errors
/// What the kernel says at once; what it finds out later is told by epoll and `SO_ERROR`.
pub fn begin_connect(socket: &Socket, to: SocketAddr) -> io::Result<bool> {
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.peer_addr().is_ok()),
    }
}

/// Lets the socket bind to and speak from addresses that are not its own (`IP_TRANSPARENT`, needs `CAP_NET_ADMIN`).
///
/// # Errors
/// When the capability is missing.
pub fn set_transparent(socket: BorrowedFd<'_>, family_of: IpAddr) -> io::Result<()> {
    match family_of {
        IpAddr::V4(_) => set_int(socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1),
        IpAddr::V6(_) => set_int(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1),
    }
}

/// Leaves the choice of the source port to connect(), which can reuse one for another destination (`IP_BIND_ADDRESS_NO_PORT`).
///
/// # Errors
/// When the socket is no IP socket.
pub fn set_bind_address_no_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Counts the socket as writable only while less than `bytes` in it have not been sent (`TCP_NOTSENT_LOWAT`).
///
/// # Errors
/// When the socket is no TCP socket.
pub fn set_unsent_limit(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_int(socket, libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, bytes.cast_signed())
}

/// Has [`receive`] tell what it leaves behind (`TCP_INQ`, since Linux 4.18).
///
/// # Errors
/// When the socket is no TCP socket.
pub fn set_tells_rest(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SOL_TCP, TCP_INQ, 1)
}

/// Receives once. Also says how much is left in the socket, if it was asked to ([`set_tells_rest`]): an end that was received
/// counts as one byte.
///
/// # Errors
/// What the kernel says.
pub fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [IoSliceMut<'_>],
    flags: libc::c_int,
) -> io::Result<(usize, Option<usize>)> {
    let mut control = Control { head: [0; CONTROL_WORDS] };
    // SAFETY: all of a msghdr's fields may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = into.as_mut_ptr().cast();
    message.msg_iovlen = into.len();
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: the places (IoSliceMut is an iovec) and the room for control messages are alive and ours during the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written whole control messages into the room that the msghdr tells of.
    let rest = unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        let is_rest = !head.is_null() && ((*head).cmsg_level, (*head).cmsg_type) == (libc::SOL_TCP, TCP_INQ);
        is_rest.then(|| libc::CMSG_DATA(head).cast::<libc::c_int>().read_unaligned())
    };
    Ok((length, rest.map(|rest| usize::try_from(rest).unwrap_or(0))))
}

/// `TCP_INQ`, not in the libc crate for every target; as a control message it has the same number.
const TCP_INQ: libc::c_int = 36;

/// Words for one control message with a number in it.
const CONTROL_WORDS: usize = 4;

/// Room for a control message, aligned as its header has to be.
#[repr(C)]
struct Control {
    head: [usize; CONTROL_WORDS],
}

/// Has epoll tell once more of what is there to be read: the kernel does so when it is asked from how many bytes on (`SO_RCVLOWAT`).
///
/// # Errors
/// When the socket is closed already.
pub fn tell_again(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1)
}

fn set_int(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer leads to a c_int that is alive during the call, and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
