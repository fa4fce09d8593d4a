//! Socket options and set-up that neither `std` nor `socket2` offers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::netns::NetnsCookie;

/// `SO_NETNS_COOKIE` (since Linux 5.14), not in the libc crate for every target.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the network namespace that the calling thread is in.
///
/// # Errors
/// When no socket can be made, or the kernel is older than 5.14.
pub fn netns_cookie() -> io::Result<NetnsCookie> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers lead to a u64 and its length, both alive during the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(NetnsCookie(cookie)) } else { Err(io::Error::last_os_error()) }
}

/// A non-blocking TCP socket of the family of `like`, in the calling thread's network namespace.
///
/// # Errors
/// When the process or the machine has no descriptor left, or the family is off.
pub fn tcp_socket(like: IpAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(like, 0)), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
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
