//! Reads capture files and the packets in them: Ethernet, IPv4, IPv6, TCP. Anything else is kept as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One captured frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The whole frame, from the Ethernet header on.
    pub(crate) bytes: Vec<u8>,
    /// What it carries, as far as it was understood.
    pub(crate) content: Content,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A TCP segment.
    Tcp(Segment),
    /// Another IP packet: source, destination, protocol number.
    Ip(IpAddr, IpAddr, u8),
    /// Not IP (ARP).
    Other,
}

/// One TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) payload: Vec<u8>,
}

/// All complete frames of a capture file. A frame that is still being written at the end is left out.
///
/// # Errors
/// When it is no Ethernet capture in the format of this machine, or a frame was cut short by the snapshot length.
pub(crate) fn read(file: &[u8]) -> Result<Vec<Frame>, String> {
    let word = |at: usize| file.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let Some(0xa1b2_c3d4 | 0xa1b2_3c4d) = word(0) else { return Err("not a capture file of this machine".into()) };
    let link = word(20).ok_or("the file's header is cut short")?;
    if link != 1 {
        return Err(format!("link type {link} instead of Ethernet"));
    }
    let mut frames = Vec::new();
    let mut at = 24;
    while let (Some(captured), Some(length)) = (word(at + 8), word(at + 12)) {
        let Some(bytes) = file.get(at + 16..at + 16 + captured as usize) else { break };
        if captured < length {
            return Err(format!("a frame of {length} bytes was captured only up to {captured}"));
        }
        frames.push(Frame { bytes: bytes.to_vec(), content: ethernet(bytes).unwrap_or(Content::Other) });
        at += 16 + captured as usize;
    }
    Ok(frames)
}

fn ethernet(frame: &[u8]) -> Option<Content> {
    let packet = frame.get(14..)?;
    match u16_at(frame, 12)? {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Content> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let length = usize::from(u16_at(packet, 2)?);
    // Segmentation offload writes 0 where a packet is longer than the field can say.
    let end = if length == 0 { packet.len() } else { length };
    let address = |at| packet.get(at..at + 4)?.try_into().ok().map(|b: [u8; 4]| IpAddr::from(Ipv4Addr::from(b)));
    ip(address(12)?, address(16)?, *packet.get(9)?, packet.get(header..end)?)
}

fn ipv6(packet: &[u8]) -> Option<Content> {
    let length = usize::from(u16_at(packet, 4)?);
    let end = if length == 0 { packet.len() } else { 40 + length };
    let address = |at| packet.get(at..at + 16)?.try_into().ok().map(|b: [u8; 16]| IpAddr::from(Ipv6Addr::from(b)));
    ip(address(8)?, address(24)?, *packet.get(6)?, packet.get(40..end)?)
}

fn ip(source: IpAddr, destination: IpAddr, protocol: u8, body: &[u8]) -> Option<Content> {
    if protocol != 6 {
        return Some(Content::Ip(source, destination, protocol));
    }
    let header = usize::from(*body.get(12)? >> 4) * 4;
    let flags = *body.get(13)?;
    Some(Content::Tcp(Segment {
        source: SocketAddr::new(source, u16_at(body, 0)?),
        destination: SocketAddr::new(destination, u16_at(body, 2)?),
        sequence: body.get(4..8)?.try_into().ok().map(u32::from_be_bytes)?,
        syn: flags & 0x02 != 0,
        fin: flags & 0x01 != 0,
        payload: body.get(header..)?.to_vec(),
    }))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}
