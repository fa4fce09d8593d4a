//! Connections that were used once and are kept.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::Pod;

/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens connections and has one request answered on each.
pub(crate) fn open(client: &Pod, server: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|number| once(client, server).with_context(|| format!("connection {number} of {count}"))).collect()
}

/// A new connection on which one request has been answered.
pub(crate) fn once(client: &Pod, server: SocketAddr) -> Result<TcpStream> {
    let mut stream = client.netns().run(|| TcpStream::connect_timeout(&server, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    request(&mut stream)?;
    Ok(stream)
}

/// Has one request answered.
pub(crate) fn request(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    answer(stream)
}

/// Reads one answer to its end: a head with a length, and the body.
fn answer(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    loop {
        ensure!(filled < buffer.len(), "an answer of more than {} bytes", buffer.len());
        let count = stream.read(&mut buffer[filled..])?;
        ensure!(count > 0, "the connection ended before its answer did");
        filled += count;
        if let Some(length) = length(&buffer[..filled])? {
            ensure!(length >= filled, "more than one answer came");
            if length == filled {
                return Ok(());
            }
        }
    }
}

/// The length of the whole answer, once its head is there.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("a head that is no text")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "refused: {}", head.lines().next().unwrap_or_default());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(Some(end + 4 + length.context("a head without a length")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\ncontent-len").unwrap(), None);
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxx").unwrap(), Some(43));
        assert!(length(b"HTTP/1.1 503 no\r\nContent-Length: 5\r\n\r\n").is_err());
    }
}
