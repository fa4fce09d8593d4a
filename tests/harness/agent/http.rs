//! One HTTP/1.0 exchange with an admin page.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::netns::Netns;

/// How long one page may take.
const PAGE: Duration = Duration::from_secs(5);

/// The status and the body.
pub(super) fn get(netns: &Netns, address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = netns.run(|| TcpStream::connect_timeout(&address, PAGE))?;
    stream.set_read_timeout(Some(PAGE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}
