//! `cgroup/getpeername4`, `cgroup/getpeername6`: an application sees the destination it asked for.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sotto_ebpf::abi::{OUTBOUND_PORT, SocketNote};

use crate::context::SockAddr;
use crate::maps::note;

/// getpeername() always works.
const ALLOW: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
fn sotto_peername4(ctx: SockAddrContext) -> i32 {
    let call = SockAddr(ctx.sock_addr);
    if let Some(note) = captured(call)
        && let Some(word) = note.destination.v4_word()
    {
        call.set_v4(word, note.port);
    }
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
fn sotto_peername6(ctx: SockAddrContext) -> i32 {
    let call = SockAddr(ctx.sock_addr);
    if let Some(note) = captured(call) {
        call.set_v6(note.destination, note.port);
    }
    ALLOW
}

/// The note about a socket that is connected to the agent, or to an endpoint, instead of what it asked for.
#[inline(always)]
fn captured(call: SockAddr) -> Option<&'static SocketNote> {
    note(call.socket()).filter(|note| match note.kind {
        SocketNote::CAPTURED => call.port() == OUTBOUND_PORT,
        SocketNote::DIRECT => true,
        _ => false,
    })
}
