//! Reading and writing sockets without asking twice.
//!
//! tokio learns that a socket is drained from a call that would block. A read that leaves nothing behind, or a write that moved less
//! than it was given, tells the same, one system call earlier (epoll is edge-triggered: what comes later is told anew). Less than
//! there was room for does not tell it of a read: one stops before urgent data, too. So sockets are asked to say what they leave
//! ([`set_tells_rest`](crate::sys::socket::set_tells_rest)), which also tells the last bytes from others.
//!
//! All of this holds on the thread that the socket's runtime runs on, and nowhere else: what epoll tells between a call and the note
//! about it would be lost.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::AsFd as _;

use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sys::socket::{self, receive};

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// So many bytes.
    pub length: usize,
    /// Whether nothing comes after them.
    pub is_last: bool,
}

/// Reads once, into several places.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when nothing is there: wait for readiness. Else what the kernel says.
pub fn read(socket: &TcpStream, into: &mut [IoSliceMut<'_>]) -> io::Result<Read> {
    read_with(socket, into, 0)
}

/// Reads once what comes after the first `known` bytes, and leaves all of it in the socket: [`read_after`] takes it out. Others hear of
/// what is there only after [`tell_again`].
///
/// # Errors
/// As [`read`].
pub fn peek_after(socket: &TcpStream, known: usize, into: &mut [u8]) -> io::Result<Read> {
    after(socket, known, into, libc::MSG_PEEK)
}

/// What was left in the socket is told of as if it came now.
pub fn tell_again(socket: &TcpStream) {
    // One that is closed already is told of anyway.
    let _closed = socket::tell_again(socket.as_fd());
}

/// Takes the first `known` bytes out, which [`peek_after`] has read and nobody needs again, and reads once what comes after them; that
/// may be nothing. It waits until there is something.
///
/// # Errors
/// As [`read`].
pub fn read_after(socket: &TcpStream, known: usize, into: &mut [u8]) -> io::Result<Read> {
    after(socket, known, into, 0)
}

fn after(socket: &TcpStream, known: usize, into: &mut [u8], flags: libc::c_int) -> io::Result<Read> {
    let mut again = vec![0; known];
    let read = read_with(socket, &mut [IoSliceMut::new(&mut again), IoSliceMut::new(into)], flags)?;
    // What is in a socket stays there.
    let length = read.length.checked_sub(known).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Read { length, ..read })
}

fn read_with(socket: &TcpStream, into: &mut [IoSliceMut<'_>], flags: libc::c_int) -> io::Result<Read> {
    let ready = socket.ready(Interest::READABLE).now_or_never().ok_or(io::ErrorKind::WouldBlock)??;
    let room: usize = into.iter().map(|place| place.len()).sum();
    let answer = receive(socket.as_fd(), into, flags).map(|(length, rest)| {
        let stays = if flags & libc::MSG_PEEK == 0 { 0 } else { length };
        (length, rest.map(|rest| rest.saturating_sub(stays)))
    });
    let is_drained = match &answer {
        Ok((length, Some(rest))) => *length > 0 && *rest == 0,
        Ok((length, None)) => (1..room).contains(length),
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    };
    if is_drained {
        note_drained(socket, Interest::READABLE);
    }
    let (length, rest) = answer?;
    // Nothing comes after an end, which counts as one byte; neither does after urgent data alone, which is another's to read.
    let was_all = ready.is_read_closed() && length < room && rest.is_some_and(|rest| rest <= 1);
    Ok(Read { length, is_last: length == 0 || was_all })
}

/// Writes several pieces at once, as much as there is room for.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when there is none. Else what the kernel says.
pub fn write_vectored(socket: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    write_once(socket, length, |mut socket| match pieces {
        [piece] => socket.write(piece),
        pieces => socket.write_vectored(pieces),
    })
}

/// As [`write_vectored`], for the last bytes that are sent: they wait in the socket for its [`shutdown`](std::net::Shutdown), so
/// that they and the end travel in one packet.
///
/// # Errors
/// As [`write_vectored`].
pub fn write_last(socket: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    write_once(socket, length, |socket| socket.send_vectored_with_flags(pieces, libc::MSG_MORE))
}

/// One call, whether or not epoll has told of the socket yet: one that was just connected can be written to at once.
fn write_once(
    socket: &TcpStream,
    wanted: usize,
    call: impl FnOnce(&socket2::Socket) -> io::Result<usize>,
) -> io::Result<usize> {
    let answer = call(&SockRef::from(socket));
    let is_full = match &answer {
        Ok(length) => *length < wanted,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    };
    if is_full {
        note_drained(socket, Interest::WRITABLE);
    }
    answer
}

/// tokio asks epoll before the next call.
fn note_drained(socket: &TcpStream, what: Interest) {
    let _noted = socket.try_io(what, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use socket2::Socket;

    use super::*;
    use crate::sys::socket::set_tells_rest;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set_tells_rest(near.as_fd()).unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// Reads until `length` bytes have come, or the end.
    async fn read_up_to(socket: &TcpStream, length: usize) -> (Vec<u8>, bool) {
        let (mut all, mut is_last) = (Vec::new(), false);
        while all.len() < length && !is_last {
            socket.readable().await.unwrap();
            let mut buffer = [0; 100];
            match read_into(socket, &mut buffer) {
                Ok((part, last)) => {
                    all.extend_from_slice(&buffer[..part]);
                    is_last = last;
                }
                Err(kind) => assert_eq!(kind, io::ErrorKind::WouldBlock),
            }
        }
        (all, is_last)
    }

    async fn closed(socket: &TcpStream) {
        while !socket.ready(Interest::READABLE).await.unwrap().is_read_closed() {}
    }

    fn write(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        write_vectored(socket, &[IoSlice::new(bytes)])
    }

    fn read_into(socket: &TcpStream, buffer: &mut [u8]) -> Result<(usize, bool), io::ErrorKind> {
        let read = read(socket, &mut [IoSliceMut::new(buffer)]).map_err(|error| error.kind())?;
        Ok((read.length, read.is_last))
    }

    #[tokio::test]
    async fn a_short_read_is_followed_by_waiting_and_nothing_is_missed() {
        for tells_rest in [true, false] {
            let (mut near, mut far) = pair().await;
            if !tells_rest {
                (near, far) = (far, near);
            }
            for round in 0..200u8 {
                let length = usize::from(round) * 7 + 1;
                far.writable().await.unwrap();
                assert_eq!(write(&far, &vec![round; length]).unwrap(), length);
                assert_eq!(read_up_to(&near, length).await, (vec![round; length], false));
            }
            drop(far);
            near.readable().await.unwrap();
            assert_eq!(read_into(&near, &mut [0; 10]), Ok((0, true)), "an end is not missed either");
        }
    }

    #[tokio::test]
    async fn the_last_bytes_are_known_as_such() {
        let (near, far) = pair().await;
        write(&far, b"good").unwrap();
        near.readable().await.unwrap();
        let mut buffer = [0; 10];
        assert_eq!(read_into(&near, &mut buffer[..4]), Ok((4, false)));
        assert_eq!(read_into(&near, &mut buffer), Err(io::ErrorKind::WouldBlock), "known without asking");
        write(&far, b"bye").unwrap();
        drop(far);
        closed(&near).await;
        assert_eq!(read_into(&near, &mut buffer[..2]), Ok((2, false)));
        assert_eq!(read_into(&near, &mut buffer), Ok((1, true)));
        assert_eq!(read_into(&near, &mut buffer), Ok((0, true)));
    }

    /// The byte itself is lost, as in every relay; what came around it is not.
    #[tokio::test]
    async fn urgent_data_holds_up_nothing() {
        let (near, far) = pair().await;
        let far: Socket = far.into_std().unwrap().into();
        for text in ["before", "X", "after"] {
            let flags = if text == "X" { libc::MSG_OOB } else { 0 };
            assert_eq!(far.send_with_flags(text.as_bytes(), flags).unwrap(), text.len());
        }
        drop(far);
        let (all, is_last) = read_up_to(&near, usize::MAX).await;
        assert!(is_last);
        assert_eq!(String::from_utf8(all).unwrap(), "beforeafter");
    }

    #[tokio::test]
    async fn what_was_seen_before_is_taken_out_with_what_follows() {
        let nothing = Err(io::ErrorKind::WouldBlock);
        for ends in [false, true] {
            let (near, mut far) = pair().await;
            let mut buffer = [0; 10];
            let mut peek = |known| peek_after(&near, known, &mut buffer).map(|read| read.length).map_err(|e| e.kind());
            write(&far, b"known").unwrap();
            near.readable().await.unwrap();
            assert_eq!(peek(0), Ok(5));
            assert_eq!(peek(5), nothing, "nothing else came");
            write(&far, b"more").unwrap();
            near.readable().await.unwrap();
            assert_eq!(peek(5), Ok(4), "it stays there");
            assert_eq!(read_after(&near, 5, &mut buffer).map_err(|error| error.kind()).map(|_| 0), nothing);
            if ends {
                tokio::io::AsyncWriteExt::shutdown(&mut far).await.unwrap();
                closed(&near).await;
            } else {
                write(&far, b"!").unwrap();
                near.readable().await.unwrap();
            }
            let read = read_after(&near, 5, &mut buffer).unwrap();
            assert_eq!((read.length, read.is_last), if ends { (4, true) } else { (5, false) });
            assert_eq!(&buffer[..4], b"more");
        }
    }

    #[tokio::test]
    async fn a_socket_can_be_used_before_epoll_has_told_of_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let near = TcpStream::from_std(near).unwrap();
        assert_eq!(write(&near, b"at once").unwrap(), 7);
        let mut buffer = [0; 20];
        assert_eq!(read_into(&near, &mut buffer), Err(io::ErrorKind::WouldBlock));
        let (mut far, _) = listener.accept().unwrap();
        far.write_all(b"answer").unwrap();
        near.readable().await.unwrap();
        assert_eq!(read_into(&near, &mut buffer), Ok((6, false)), "and what comes later is told");
    }

    #[tokio::test]
    async fn last_bytes_wait_for_the_end() {
        let (near, far) = loop {
            let ((near, far), start) = (pair().await, Instant::now());
            assert_eq!(write_last(&far, &[IoSlice::new(b"good"), IoSlice::new(b"bye")]).unwrap(), 7);
            let look = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            let arrived =
                receive(near.as_fd(), &mut [IoSliceMut::new(&mut [0; 10])], look).map_err(|error| error.kind());
            // The kernel sends them anyway after 200 ms.
            if start.elapsed() < Duration::from_millis(100) {
                assert_eq!(arrived.map(|_| ()), Err(io::ErrorKind::WouldBlock));
                break (near, far);
            }
        };
        SockRef::from(&far).shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut { near }, &mut all).await.unwrap();
        assert_eq!(all, b"goodbye");
    }
}
