//! Layouts of keys and values in maps. A change here is a change of [`LAYOUT`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Version of everything in this file: an agent never shares maps with programs of another layout.
pub const LAYOUT: u32 = 3;

/// Captured connections arrive here, on the pod's own address.
pub const OUTBOUND_PORT: u16 = 15001;
/// Reserved for the plain-text listener; nobody may connect to it.
pub const PLAINTEXT_PORT: u16 = 15006;
/// Peers' tunnels arrive here.
pub const HBONE_PORT: u16 = 15008;

/// The first packet of a captured connection is sent again after an eighth of the usual time: it crosses `lo`, and is lost only while no
/// agent is there.
pub const SYN_RETRY_FRACTION: u32 = 8;
/// Each try waits twice as long as the one before, so with these tries more all of them together take as long as usual.
pub const SYN_RETRIES_MORE: i32 = 3;

/// `PODS`: how many pods one agent can enrol.
pub const MAX_PODS: usize = 4096;
/// `ORIGINAL_DESTINATIONS`: captured connections that the agent has not accepted yet.
pub const MAX_ORIGINAL_DESTINATIONS: usize = 262_144;
/// `ADMITTED_FLOWS`: the agent's connections to applications, and the kubelet's to anything.
pub const MAX_ADMITTED_FLOWS: usize = 262_144;
/// `LISTENERS`: three roles and two families per pod, with room to spare.
pub const MAX_LISTENERS: usize = 32_768;
/// `KUBELETS`: cgroups in which a kubelet runs. A node has one, and for a moment two while it is restarted.
pub const MAX_KUBELETS: usize = 16;

/// An IP address as the maps hold it: 16 bytes in network order, IPv4 as v4-mapped IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub [u32; 4]);

/// The third word of every v4-mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Address {
    /// The v4-mapped form of an IPv4 address that is a word in network order, as the kernel hands it out.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// The IPv4 address inside, as a word in network order.
    #[inline(always)]
    #[must_use]
    pub const fn v4_word(self) -> Option<u32> {
        if self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED { Some(self.0[3]) } else { None }
    }

    /// From the standard library's form.
    #[must_use]
    pub fn from_ip(ip: IpAddr) -> Self {
        let octets = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let word = |at: usize| u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }

    /// To the standard library's form; v4-mapped comes out as IPv4.
    #[must_use]
    pub fn to_ip(self) -> IpAddr {
        match self.v4_word() {
            Some(word) => Ipv4Addr::from(u32::from_be(word)).into(),
            None => {
                let mut octets = [0; 16];
                for (bytes, word) in octets.chunks_exact_mut(4).zip(self.0) {
                    bytes.copy_from_slice(&word.to_ne_bytes());
                }
                Ipv6Addr::from(octets).into()
            }
        }
    }
}

/// `PODS`: the addresses of an enrolled pod.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddresses {
    /// [`Self::HAS_V4`] and [`Self::HAS_V6`]
    pub families: u32,
    /// The IPv4 address as a word in network order, or 0.
    pub v4: u32,
    /// The IPv6 address, or zeroes.
    pub v6: Address,
}

impl PodAddresses {
    /// The pod has an IPv4 address.
    pub const HAS_V4: u32 = 1;
    /// The pod has an IPv6 address.
    pub const HAS_V6: u32 = 2;

    /// From the standard library's forms.
    #[must_use]
    pub fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        let families = if v4.is_some() { Self::HAS_V4 } else { 0 } | if v6.is_some() { Self::HAS_V6 } else { 0 };
        Self {
            families,
            v4: v4.map_or(0, |ip| u32::from_ne_bytes(ip.octets())),
            v6: v6.map_or(Address([0; 4]), |ip| Address::from_ip(ip.into())),
        }
    }

    /// The IPv4 address, mapped.
    #[inline(always)]
    #[must_use]
    pub fn address_v4(&self) -> Option<Address> {
        (self.families & Self::HAS_V4 != 0).then(|| Address::from_v4_word(self.v4))
    }

    /// The IPv6 address.
    #[inline(always)]
    #[must_use]
    pub fn address_v6(&self) -> Option<Address> {
        (self.families & Self::HAS_V6 != 0).then_some(self.v6)
    }
}

/// `SOCKETS`: what is known about one socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketNote {
    /// Captured or direct: cookie of the socket's network namespace.
    pub netns: u64,
    /// Direct: the verdict that let it go, as the agent numbered it.
    pub grant: u64,
    /// Direct: bytes received when the other side had acknowledged this one's end; see [`crate::decide::direct::totals`].
    pub received_at_end: u64,
    /// Captured or direct: where the application wanted to go.
    pub destination: Address,
    /// Captured: the endpoint that was picked for a service's address; none if its port is 0.
    pub picked: Address,
    /// One of the constants of this type.
    pub kind: u32,
    /// Captured or direct: the port of `destination`.
    pub port: u16,
    /// The port of `picked`, or 0.
    pub picked_port: u16,
}

impl SocketNote {
    /// The agent's, on its way out of the pod: never captured.
    pub const OWN: u32 = 1;
    /// The agent's, on its way to the pod's application: never captured, and admitted when it arrives.
    pub const DELIVERY: u32 = 2;
    /// The application's, and its destination was rewritten.
    pub const CAPTURED: u32 = 3;
    /// The kubelet's, made on the node itself: admitted when it arrives in a pod of this node.
    pub const KUBELET: u32 = 4;
    /// The application's, on its way straight to a pod of this node.
    pub const DIRECT: u32 = 5;

    /// A note without a destination; `kind` is [`Self::OWN`], [`Self::DELIVERY`] or [`Self::KUBELET`].
    #[inline(always)]
    #[must_use]
    pub const fn of_kind(kind: u32) -> Self {
        let none = Address([0; 4]);
        Self { netns: 0, grant: 0, received_at_end: 0, destination: none, picked: none, kind, port: 0, picked_port: 0 }
    }
}

/// `ORIGINAL_DESTINATIONS`: the near end of a captured connection. The far end is always the pod's own address and
/// [`OUTBOUND_PORT`], so this names one connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// Cookie of the pod's network namespace.
    pub netns: u64,
    /// The application's address.
    pub ip: Address,
    /// The application's port.
    pub port: u16,
    /// Always 0.
    pub padding: [u16; 3],
}

impl SourceKey {
    /// A key with its padding in order.
    #[inline(always)]
    #[must_use]
    pub const fn new(netns: u64, ip: Address, port: u16) -> Self {
        Self { netns, ip, port, padding: [0; 3] }
    }
}

/// `ORIGINAL_DESTINATIONS`: where a captured connection wanted to go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalDestination {
    /// When the entry was written: nanoseconds on `CLOCK_BOOTTIME`.
    pub written_ns: u64,
    /// The address.
    pub ip: Address,
    /// The endpoint that was picked for it, if it is a service's and the programs know its endpoints: the agent tries this one
    /// first, so that each gets its share.
    pub picked: Address,
    /// The port.
    pub port: u16,
    /// The port of `picked`; 0 if none was.
    pub picked_port: u16,
    /// Always 0.
    pub padding: u32,
}

/// `ADMITTED_FLOWS`: a connection as its receiving pod sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The pod's address.
    pub local: Address,
    /// The peer's address.
    pub remote: Address,
    /// The pod's port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

/// `ADMITTED_FLOWS`: why a connection goes to the application without the agent's listener. It is there for exactly as long as
/// the socket that made the connection, so that no other connection can ever have its addresses and ports.
pub mod admitted {
    /// The agent delivers it.
    pub const DELIVERY: u32 = 1;
    /// The kubelet made it.
    pub const KUBELET: u32 = 2;
}

/// `LISTENERS`: which of the agent's listening sockets serves a pod in a role.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// The pod's address; the lookup program knows no netns cookie, and pod addresses are unique on a node.
    pub ip: Address,
    /// A [`Role`].
    pub role: u32,
}

/// What one of the agent's listening sockets is for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Takes what the pod's applications send.
    Outbound = 0,
    /// Takes what arrives outside the tunnel.
    Plaintext = 1,
    /// Takes peers' tunnels.
    Hbone = 2,
}

/// `COUNTERS`: an index into the array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections of enrolled pods that were handed to the agent.
    Captured = 0,
    /// connect() refused: the pod has no address of the destination's family.
    RefusedNoAddress = 1,
    /// connect() refused: the note about the socket could not be written (its option memory is full).
    RefusedNoNote = 2,
    /// SYNs that were dropped while the agent had no outbound listener.
    HeldSyns = 3,
    /// Inbound connections refused because the listener was missing.
    RefusedNoListener = 4,
    /// Inbound connections refused because nobody may use that port.
    RefusedReservedPort = 5,
    /// Captured connections that found `ORIGINAL_DESTINATIONS` full.
    OriginalDestinationsFull = 6,
    /// The agent's connections to applications that found `ADMITTED_FLOWS` full.
    AdmittedFlowsFull = 7,
    /// Connections of the kubelet that went straight to the application: probes and lifecycle hooks.
    Probes = 8,
    /// Connections that went straight to a pod of this node.
    Direct = 9,
    /// Direct connections that were refused on arrival: their verdict had been withdrawn meanwhile.
    DirectWithdrawn = 10,
    /// Direct connections that were cut off because it was not a pod of this node that answered.
    DirectStrayed = 11,
    /// Direct connections that were cut off because `DIRECT_FLOWS` was full.
    DirectFlowsFull = 12,
    /// Direct connections whose end was not told to the agent because `FLOW_EVENTS` was full.
    FlowEventsFull = 13,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = 14;
}

// The agent and programs are compiled by different compilers: a layout that differed would be read as nonsense.
const _: () = {
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<PodAddresses>() == 24);
    assert!(size_of::<SocketNote>() == 64);
    assert!(size_of::<SourceKey>() == 32);
    assert!(size_of::<OriginalDestination>() == 48);
    assert!(size_of::<Flow>() == 36);
    assert!(size_of::<ListenerKey>() == 20);
    assert!(Counter::FlowEventsFull as usize + 1 == Counter::COUNT);
};

/// What only the agent needs.
#[cfg(feature = "user")]
pub mod user {
    use super::{Flow, ListenerKey, OriginalDestination, PodAddresses, SocketNote, SourceKey};
    use crate::abi_direct::{DirectFlow, EndpointKey, EndpointSet, FlowEnd, Target, VerdictKey};

    // SAFETY: plain integers without implicit padding, as the sizes above show.
    unsafe impl aya::Pod for Flow {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ListenerKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for OriginalDestination {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PodAddresses {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SocketNote {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SourceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for VerdictKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DirectFlow {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Target {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndpointSet {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndpointKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowEnd {}

    /// The bytes of a key or value.
    #[must_use]
    pub fn bytes<T: aya::Pod>(value: &T) -> &[u8] {
        // SAFETY: `Pod` promises plain data without padding, so every byte is initialised.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
    }

    /// A key or value from its bytes; none if it has another length.
    #[must_use]
    pub fn read<T: aya::Pod>(bytes: &[u8]) -> Option<T> {
        // SAFETY: the length is right, every combination of bytes is a valid value, and the read needs no alignment.
        (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    /// The bytes of a key or value, to be filled in.
    #[must_use]
    pub fn bytes_mut<T: aya::Pod>(value: &mut T) -> &mut [u8] {
        // SAFETY: as above, and every combination of bytes is a valid value.
        unsafe { core::slice::from_raw_parts_mut(core::ptr::from_mut(value).cast(), size_of::<T>()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_network_order_and_one_form() {
        for (text, canonical) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("fd00::1:2", "fd00::1:2"),
            ("::1", "::1"),
            ("::", "::"),
            ("::10.1.2.3", "::10.1.2.3"),
        ] {
            let address = Address::from_ip(text.parse().unwrap());
            assert_eq!(address.to_ip().to_string(), canonical.parse::<IpAddr>().unwrap().to_string(), "{text}");
        }
        assert_eq!(Address::from_ip("10.1.2.3".parse().unwrap()), Address::from_ip("::ffff:10.1.2.3".parse().unwrap()));
        let bytes: Vec<u8> =
            Address::from_ip("1.2.3.4".parse().unwrap()).0.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4]);
    }

    #[test]
    fn a_pod_has_the_addresses_it_was_given() {
        let both = PodAddresses::new(Some("10.0.0.1".parse().unwrap()), Some("fd00::1".parse().unwrap()));
        assert_eq!(both.address_v4().map(Address::to_ip), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(both.address_v6().map(Address::to_ip), Some("fd00::1".parse().unwrap()));
        let neither = PodAddresses::new(None, None);
        assert_eq!((neither.address_v4(), neither.address_v6()), (None, None));
    }
}
