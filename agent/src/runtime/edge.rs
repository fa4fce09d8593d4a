//! Reading and writing sockets without asking twice.
//!
//! tokio learns that a socket is drained from a call that would block. A call that moved less than it was given room for tells
//! the same, one system call earlier (epoll is edge-triggered: what comes later is told anew).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::MsgFlags;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads once into one place. 0 is the end.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when nothing is there: wait for readiness. Else what the kernel says.
pub fn read(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let room = into.len();
    once(socket, Interest::READABLE, room, |mut socket| socket.read(into))
}

/// Reads once, and leaves in the socket what was read: [`read_after`] takes it out. 0 is the end.
///
/// # Errors
/// As [`read`].
pub fn peek(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    // There may be more, whatever is read: what is there stays there.
    socket.try_io(Interest::READABLE, || Ok(nix::sys::socket::recv(socket.as_raw_fd(), into, MsgFlags::MSG_PEEK)?))
}

/// Reads once what comes after the first `known` bytes, which [`peek`] has read and nobody needs again.
///
/// # Errors
/// As [`read`].
pub fn read_after(socket: &TcpStream, known: usize, into: &mut [u8]) -> io::Result<usize> {
    let mut again = vec![0; known];
    let length = read_vectored(socket, &mut [IoSliceMut::new(&mut again), IoSliceMut::new(into)])?;
    match length.checked_sub(known) {
        Some(0) => Err(io::ErrorKind::WouldBlock.into()),
        Some(length) => Ok(length),
        // What is in a socket stays there.
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads once into several places.
///
/// # Errors
/// As [`read`].
pub fn read_vectored(socket: &TcpStream, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let room = into.iter().map(|slice| slice.len()).sum();
    once(socket, Interest::READABLE, room, |mut socket| socket.read_vectored(into))
}

/// Writes once, as much as there is room for.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when there is none. Else what the kernel says.
pub fn write(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    once(socket, Interest::WRITABLE, bytes.len(), |mut socket| socket.write(bytes))
}

/// Writes several pieces at once.
///
/// # Errors
/// As [`write()`].
pub fn write_vectored(socket: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    once(socket, Interest::WRITABLE, length, |mut socket| match pieces {
        [piece] => socket.write(piece),
        pieces => socket.write_vectored(pieces),
    })
}

/// As [`write_vectored`], for the last bytes that are sent: they wait in the socket for its [`shutdown`](std::net::Shutdown), so
/// that they and the end travel in one packet.
///
/// # Errors
/// As [`write()`].
pub fn write_last(socket: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    once(socket, Interest::WRITABLE, length, |socket| socket.send_vectored_with_flags(pieces, libc::MSG_MORE))
}

/// One call; if it moves less than `wanted`, tokio is told that the next would block.
fn once(
    socket: &TcpStream,
    interest: Interest,
    wanted: usize,
    call: impl FnOnce(&socket2::Socket) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = None;
    let answer = socket.try_io(interest, || {
        let length = call(&SockRef::from(socket))?;
        moved = Some(length);
        if 0 < length && length < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(length) }
    });
    moved.map_or(answer, Ok)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn a_short_read_is_followed_by_waiting_and_nothing_is_missed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        for round in 0..200u8 {
            let length = usize::from(round) * 7 + 1;
            far.writable().await.unwrap();
            assert_eq!(write(&far, &vec![round; length]).unwrap(), length);
            let mut got = 0;
            while got < length {
                near.readable().await.unwrap();
                let mut buffer = [0; 100];
                match read(&near, &mut buffer) {
                    Ok(part) => got += part,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            seen.push(got);
        }
        drop(far);
        near.readable().await.unwrap();
        assert_eq!(read(&near, &mut [0; 10]).unwrap(), 0, "an end is not missed either");
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_seen_before_is_taken_out_with_what_follows() {
        let (near, far) = pair().await;
        for more in ["", "more"] {
            write(&far, b"known").unwrap();
            near.readable().await.unwrap();
            let mut buffer = [0; 10];
            assert_eq!(peek(&near, &mut buffer).unwrap(), 5);
            assert_eq!((peek(&near, &mut buffer).unwrap(), &buffer[..5]), (5, &b"known"[..]), "it stays there");
            write(&far, more.as_bytes()).unwrap();
            let rest = read_after(&near, 5, &mut buffer).map_err(|error| error.kind());
            assert_eq!(rest, if more.is_empty() { Err(io::ErrorKind::WouldBlock) } else { Ok(4) });
            assert_eq!(read(&near, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock, "all was taken out");
        }
        write(&far, b"once again").unwrap();
        near.readable().await.unwrap();
        assert_eq!(read(&near, &mut [0; 20]).unwrap(), 10, "what comes later is told anew");
    }

    #[tokio::test]
    async fn last_bytes_wait_for_the_end() {
        let (near, far) = loop {
            let ((near, far), start) = (pair().await, Instant::now());
            assert_eq!(write_last(&far, &[IoSlice::new(b"good"), IoSlice::new(b"bye")]).unwrap(), 7);
            let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
            let arrived = nix::sys::socket::recv(near.as_raw_fd(), &mut [0; 10], look);
            // The kernel sends them anyway after 200 ms.
            if start.elapsed() < Duration::from_millis(100) {
                assert_eq!(arrived, Err(nix::errno::Errno::EAGAIN));
                break (near, far);
            }
        };
        SockRef::from(&far).shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut { near }, &mut all).await.unwrap();
        assert_eq!(all, b"goodbye");
    }
}
