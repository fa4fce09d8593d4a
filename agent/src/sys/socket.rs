//! Socket options and set-up that neither `std` nor `socket2` offers.

use std::io;
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
