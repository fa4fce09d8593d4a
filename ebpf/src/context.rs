//! Access to the fields of a program's context, one instruction each at a fixed offset: the verifier takes nothing
//! else, and left alone the compiler merges two reads into one at a computed offset.

use core::arch::asm;
use core::mem::offset_of;

use aya_ebpf::bindings::{bpf_sk_lookup, bpf_sock, bpf_sock_addr, bpf_sock_ops};
use sotto_ebpf::abi::{Address, Flow};

const AF_INET: u32 = 2;

/// What cgroup hooks on connect() and getpeername() see.
#[derive(Clone, Copy)]
pub(crate) struct SockAddr(pub(crate) *mut bpf_sock_addr);

impl SockAddr {
    #[inline(always)]
    pub(crate) fn protocol(self) -> u32 {
        load32::<{ offset_of!(bpf_sock_addr, protocol) }, _>(self.0)
    }

    /// The socket; never null in these hooks.
    #[inline(always)]
    pub(crate) fn socket(self) -> *mut bpf_sock {
        load64::<{ offset_of!(bpf_sock_addr, __bindgen_anon_1) }, _>(self.0) as *mut bpf_sock
    }

    /// The address that the socket was bound to before, of an IPv4 socket; zeroes (mapped) if it was not.
    #[inline(always)]
    pub(crate) fn source_v4(self) -> Address {
        Address::from_v4_word(load32::<{ offset_of!(bpf_sock, src_ip4) }, _>(self.socket()))
    }

    /// The same of an IPv6 socket.
    #[inline(always)]
    pub(crate) fn source_v6(self) -> Address {
        load_address::<
            { offset_of!(bpf_sock, src_ip6) },
            { offset_of!(bpf_sock, src_ip6) + 4 },
            { offset_of!(bpf_sock, src_ip6) + 8 },
            { offset_of!(bpf_sock, src_ip6) + 12 },
            _,
        >(self.socket())
    }

    /// Whether the application chose a way for the socket's packets: a device, or a mark for routing rules.
    #[inline(always)]
    pub(crate) fn has_its_own_way(self) -> bool {
        load32::<{ offset_of!(bpf_sock, bound_dev_if) }, _>(self.socket()) != 0
            || load32::<{ offset_of!(bpf_sock, mark) }, _>(self.socket()) != 0
    }

    #[inline(always)]
    pub(crate) fn address_v4(self) -> Address {
        Address::from_v4_word(load32::<{ offset_of!(bpf_sock_addr, user_ip4) }, _>(self.0))
    }

    #[inline(always)]
    pub(crate) fn address_v6(self) -> Address {
        load_address::<
            { offset_of!(bpf_sock_addr, user_ip6) },
            { offset_of!(bpf_sock_addr, user_ip6) + 4 },
            { offset_of!(bpf_sock_addr, user_ip6) + 8 },
            { offset_of!(bpf_sock_addr, user_ip6) + 12 },
            _,
        >(self.0)
    }

    /// The port in host order; the field holds it in network order in its low half.
    #[inline(always)]
    pub(crate) fn port(self) -> u16 {
        u16::from_be(load32::<{ offset_of!(bpf_sock_addr, user_port) }, _>(self.0) as u16)
    }

    #[inline(always)]
    pub(crate) fn set_v4(self, word: u32, port: u16) {
        store32::<{ offset_of!(bpf_sock_addr, user_ip4) }, _>(self.0, word);
        self.set_port(port);
    }

    #[inline(always)]
    pub(crate) fn set_v6(self, address: Address, port: u16) {
        store32::<{ offset_of!(bpf_sock_addr, user_ip6) }, _>(self.0, address.0[0]);
        store32::<{ offset_of!(bpf_sock_addr, user_ip6) + 4 }, _>(self.0, address.0[1]);
        store32::<{ offset_of!(bpf_sock_addr, user_ip6) + 8 }, _>(self.0, address.0[2]);
        store32::<{ offset_of!(bpf_sock_addr, user_ip6) + 12 }, _>(self.0, address.0[3]);
        self.set_port(port);
    }

    #[inline(always)]
    fn set_port(self, port: u16) {
        store32::<{ offset_of!(bpf_sock_addr, user_port) }, _>(self.0, u32::from(port.to_be()));
    }
}

/// What sockops sees.
#[derive(Clone, Copy)]
pub(crate) struct SockOps(pub(crate) *mut bpf_sock_ops);

impl SockOps {
    #[inline(always)]
    pub(crate) fn operation(self) -> u32 {
        load32::<{ offset_of!(bpf_sock_ops, op) }, _>(self.0)
    }

    /// Of a change of state: the state before.
    #[inline(always)]
    pub(crate) fn old_state(self) -> u32 {
        load32::<{ offset_of!(bpf_sock_ops, __bindgen_anon_1) }, _>(self.0)
    }

    /// Of a change of state: the state after.
    #[inline(always)]
    pub(crate) fn new_state(self) -> u32 {
        load32::<{ offset_of!(bpf_sock_ops, __bindgen_anon_1) + 4 }, _>(self.0)
    }

    /// Bytes that the other side has acknowledged.
    #[inline(always)]
    pub(crate) fn bytes_acknowledged(self) -> u64 {
        load64::<{ offset_of!(bpf_sock_ops, bytes_acked) }, _>(self.0)
    }

    /// Bytes that have arrived in order.
    #[inline(always)]
    pub(crate) fn bytes_received(self) -> u64 {
        load64::<{ offset_of!(bpf_sock_ops, bytes_received) }, _>(self.0)
    }

    #[inline(always)]
    pub(crate) fn callback_flags(self) -> u32 {
        load32::<{ offset_of!(bpf_sock_ops, bpf_sock_ops_cb_flags) }, _>(self.0)
    }

    /// What the kernel learns if the program returns 1.
    #[inline(always)]
    pub(crate) fn set_reply(self, reply: u32) {
        store32::<{ offset_of!(bpf_sock_ops, __bindgen_anon_1) }, _>(self.0, reply);
    }

    #[inline(always)]
    pub(crate) fn socket(self) -> Option<*mut bpf_sock> {
        let socket = load64::<{ offset_of!(bpf_sock_ops, __bindgen_anon_2) }, _>(self.0) as *mut bpf_sock;
        (!socket.is_null()).then_some(socket)
    }

    /// The port in host order.
    #[inline(always)]
    pub(crate) fn local_port(self) -> u16 {
        load32::<{ offset_of!(bpf_sock_ops, local_port) }, _>(self.0) as u16
    }

    /// The port in host order; the field holds it in network order across the whole word.
    #[inline(always)]
    pub(crate) fn remote_port(self) -> u16 {
        u32::from_be(load32::<{ offset_of!(bpf_sock_ops, remote_port) }, _>(self.0)) as u16
    }

    /// Near address. An IPv6 socket that speaks IPv4 has v4-mapped addresses, so the socket's family decides.
    #[inline(always)]
    pub(crate) fn local(self) -> Address {
        if self.is_v4() {
            return Address::from_v4_word(load32::<{ offset_of!(bpf_sock_ops, local_ip4) }, _>(self.0));
        }
        load_address::<
            { offset_of!(bpf_sock_ops, local_ip6) },
            { offset_of!(bpf_sock_ops, local_ip6) + 4 },
            { offset_of!(bpf_sock_ops, local_ip6) + 8 },
            { offset_of!(bpf_sock_ops, local_ip6) + 12 },
            _,
        >(self.0)
    }

    /// Far address.
    #[inline(always)]
    pub(crate) fn remote(self) -> Address {
        if self.is_v4() {
            return Address::from_v4_word(load32::<{ offset_of!(bpf_sock_ops, remote_ip4) }, _>(self.0));
        }
        load_address::<
            { offset_of!(bpf_sock_ops, remote_ip6) },
            { offset_of!(bpf_sock_ops, remote_ip6) + 4 },
            { offset_of!(bpf_sock_ops, remote_ip6) + 8 },
            { offset_of!(bpf_sock_ops, remote_ip6) + 12 },
            _,
        >(self.0)
    }

    #[inline(always)]
    fn is_v4(self) -> bool {
        load32::<{ offset_of!(bpf_sock_ops, family) }, _>(self.0) == AF_INET
    }
}

/// What sk_lookup sees.
#[derive(Clone, Copy)]
pub(crate) struct SkLookup(pub(crate) *mut bpf_sk_lookup);

impl SkLookup {
    #[inline(always)]
    pub(crate) fn protocol(self) -> u32 {
        load32::<{ offset_of!(bpf_sk_lookup, protocol) }, _>(self.0)
    }

    #[inline(always)]
    pub(crate) fn device(self) -> u32 {
        load32::<{ offset_of!(bpf_sk_lookup, ingress_ifindex) }, _>(self.0)
    }

    #[inline(always)]
    pub(crate) fn flow(self) -> Flow {
        let (local, remote) = if load32::<{ offset_of!(bpf_sk_lookup, family) }, _>(self.0) == AF_INET {
            (
                Address::from_v4_word(load32::<{ offset_of!(bpf_sk_lookup, local_ip4) }, _>(self.0)),
                Address::from_v4_word(load32::<{ offset_of!(bpf_sk_lookup, remote_ip4) }, _>(self.0)),
            )
        } else {
            (self.local_v6(), self.remote_v6())
        };
        Flow {
            local,
            remote,
            local_port: load32::<{ offset_of!(bpf_sk_lookup, local_port) }, _>(self.0) as u16,
            remote_port: u16::from_be(load16::<{ offset_of!(bpf_sk_lookup, remote_port) }, _>(self.0)),
        }
    }

    #[inline(always)]
    fn local_v6(self) -> Address {
        load_address::<
            { offset_of!(bpf_sk_lookup, local_ip6) },
            { offset_of!(bpf_sk_lookup, local_ip6) + 4 },
            { offset_of!(bpf_sk_lookup, local_ip6) + 8 },
            { offset_of!(bpf_sk_lookup, local_ip6) + 12 },
            _,
        >(self.0)
    }

    #[inline(always)]
    fn remote_v6(self) -> Address {
        load_address::<
            { offset_of!(bpf_sk_lookup, remote_ip6) },
            { offset_of!(bpf_sk_lookup, remote_ip6) + 4 },
            { offset_of!(bpf_sk_lookup, remote_ip6) + 8 },
            { offset_of!(bpf_sk_lookup, remote_ip6) + 12 },
            _,
        >(self.0)
    }
}

#[inline(always)]
fn load_address<const A: usize, const B: usize, const C: usize, const D: usize, T>(context: *mut T) -> Address {
    Address([load32::<A, T>(context), load32::<B, T>(context), load32::<C, T>(context), load32::<D, T>(context)])
}

#[inline(always)]
fn load16<const OFFSET: usize, T>(context: *mut T) -> u16 {
    let value: u64;
    // SAFETY: the context is valid while the program runs, and the verifier checks the offset.
    unsafe {
        asm!("{value} = *(u16 *)({context} + {offset})", value = out(reg) value, context = in(reg) context,
            offset = const OFFSET, options(readonly, nostack));
    }
    value as u16
}

#[inline(always)]
fn load32<const OFFSET: usize, T>(context: *mut T) -> u32 {
    let value: u64;
    // SAFETY: as above.
    unsafe {
        asm!("{value} = *(u32 *)({context} + {offset})", value = out(reg) value, context = in(reg) context,
            offset = const OFFSET, options(readonly, nostack));
    }
    value as u32
}

#[inline(always)]
fn load64<const OFFSET: usize, T>(context: *mut T) -> u64 {
    let value: u64;
    // SAFETY: as above.
    unsafe {
        asm!("{value} = *(u64 *)({context} + {offset})", value = out(reg) value, context = in(reg) context,
            offset = const OFFSET, options(readonly, nostack));
    }
    value
}

#[inline(always)]
fn store32<const OFFSET: usize, T>(context: *mut T, value: u32) {
    // SAFETY: as above; the verifier checks that this hook may write the field.
    unsafe {
        asm!("*(u32 *)({context} + {offset}) = {value}", value = in(reg) u64::from(value), context = in(reg) context,
            offset = const OFFSET, options(nostack));
    }
}
