//! `cgroup/getpeername4`, `cgroup/getpeername6`: an application sees the destination it asked for.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sotto_ebpf::abi::{OUTBOUND_PORT, SocketNote};

use crate::maps::note;
use crate::packet::user_port;

/// getpeername() always works.
const ALLOW: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
fn sotto_peername4(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    if let Some(note) = captured(raw)
        && let Some(word) = note.destination.v4_word()
    {
        // SAFETY: the context is valid while the program runs; getpeername hooks may write the address.
        unsafe {
            (&raw mut (*raw).user_ip4).write_volatile(word);
            (&raw mut (*raw).user_port).write_volatile(u32::from(note.port.to_be()));
        }
    }
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
fn sotto_peername6(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    if let Some(note) = captured(raw) {
        // SAFETY: as above.
        unsafe {
            (&raw mut (*raw).user_ip6[0]).write_volatile(note.destination.0[0]);
            (&raw mut (*raw).user_ip6[1]).write_volatile(note.destination.0[1]);
            (&raw mut (*raw).user_ip6[2]).write_volatile(note.destination.0[2]);
            (&raw mut (*raw).user_ip6[3]).write_volatile(note.destination.0[3]);
            (&raw mut (*raw).user_port).write_volatile(u32::from(note.port.to_be()));
        }
    }
    ALLOW
}

/// The note about a socket that is connected to the agent instead of its destination.
#[inline(always)]
fn captured(raw: *mut bpf_sock_addr) -> Option<&'static SocketNote> {
    // SAFETY: the context is valid while the program runs, and a getpeername() always has a socket.
    let socket = unsafe { (&raw const (*raw).__bindgen_anon_1.sk).read_volatile() };
    note(socket).filter(|note| note.kind == SocketNote::CAPTURED && user_port(raw) == OUTBOUND_PORT)
}
