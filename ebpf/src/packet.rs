//! Checked access to packet headers.

use aya_ebpf::programs::TcContext;
use sotto_ebpf::abi::Address;

/// What matters of a TCP packet.
pub(crate) struct Segment {
    /// Where it goes.
    pub(crate) destination: Address,
    /// Offset of the TCP header.
    pub(crate) tcp: usize,
}

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
const IPPROTO_TCP: u8 = 6;
const IPV6_HEADER: usize = 40;

/// Reads a packet as far as its TCP header; `None` if it has none, or one behind IPv6 extension headers.
#[inline(always)]
pub(crate) fn segment(ctx: &TcContext) -> Option<Segment> {
    match ctx.load::<u16>(12).ok()? {
        ETHERTYPE_IPV4 => {
            if ctx.load::<u8>(ETHERNET + 9).ok()? != IPPROTO_TCP {
                return None;
            }
            let header = usize::from(ctx.load::<u8>(ETHERNET).ok()? & 0x0f) * 4;
            let destination = Address::from_v4_word(ctx.load::<u32>(ETHERNET + 16).ok()?);
            Some(Segment { destination, tcp: ETHERNET + header })
        }
        ETHERTYPE_IPV6 => {
            if ctx.load::<u8>(ETHERNET + 6).ok()? != IPPROTO_TCP {
                return None;
            }
            let destination = Address(ctx.load::<[u32; 4]>(ETHERNET + 24).ok()?);
            Some(Segment { destination, tcp: ETHERNET + IPV6_HEADER })
        }
        _ => None,
    }
}
