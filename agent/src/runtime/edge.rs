//! Reading and writing sockets without asking twice.
//!
//! tokio learns that a socket is drained from a call that would block. A call that moved less than it was given room for tells
//! the same, one system call earlier (epoll is edge-triggered: what comes later is told anew).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

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
}
