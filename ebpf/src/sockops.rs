//! `sockops`: says, before the first packet leaves, what connection the agent is about to see.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use sotto_ebpf::abi::{Address, Counter, Flow, OriginalDestination, SocketNote, SourceKey};
use sotto_ebpf::decide;

use crate::maps::{ADMITTED_FLOWS, ORIGINAL_DESTINATIONS, count, note};

const AF_INET: u32 = 2;
const BPF_ANY: u64 = 0;

#[sock_ops]
fn sotto_sockops(ctx: SockOpsContext) -> u32 {
    let raw = ctx.ops;
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx, raw),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE as u32 => closed(&ctx, raw),
        _ => {}
    }
    0
}

/// connect() has chosen the source port and sends the SYN next.
#[inline(always)]
fn connecting(ctx: &SockOpsContext, raw: *mut bpf_sock_ops) {
    let Some(note) = note_of(raw) else { return };
    match note.kind {
        SocketNote::CAPTURED => {
            watch_state(ctx);
            let value = OriginalDestination {
                // SAFETY: reads a clock.
                written_ns: unsafe { bpf_ktime_get_boot_ns() },
                ip: note.destination,
                port: note.port,
                padding: [0; 3],
            };
            if ORIGINAL_DESTINATIONS.insert(source(note, raw), value, BPF_ANY).is_err() {
                count(Counter::OriginalDestinationsFull);
            }
        }
        SocketNote::DELIVERY => {
            watch_state(ctx);
            if ADMITTED_FLOWS.insert(flow(raw), 1, BPF_ANY).is_err() {
                count(Counter::AdmittedFlowsFull);
            }
        }
        _ => {}
    }
}

/// The socket has reached CLOSE: refused, reset, timed out, or handed over to TIME-WAIT.
#[inline(always)]
fn closed(ctx: &SockOpsContext, raw: *mut bpf_sock_ops) {
    let Some(note) = note_of(raw) else { return };
    match note.kind {
        SocketNote::CAPTURED if decide::forget_when_closed(ctx.arg(0)) => {
            // An entry that the agent took is not there; that is the usual case.
            let _ = ORIGINAL_DESTINATIONS.remove(source(note, raw));
        }
        SocketNote::DELIVERY => {
            // One that found the map full is not there.
            let _ = ADMITTED_FLOWS.remove(flow(raw));
        }
        _ => {}
    }
}

/// Asks for a call on each change of state. It can only fail for a socket that is not a full one, which a connecting
/// socket is.
#[inline(always)]
fn watch_state(ctx: &SockOpsContext) {
    let _ = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}

#[inline(always)]
fn note_of(raw: *mut bpf_sock_ops) -> Option<&'static SocketNote> {
    // SAFETY: the context is valid while the program runs.
    let socket = unsafe { (&raw const (*raw).__bindgen_anon_2.sk).read_volatile() };
    if socket.is_null() { None } else { note(socket) }
}

#[inline(always)]
fn source(note: &SocketNote, raw: *mut bpf_sock_ops) -> SourceKey {
    SourceKey::new(note.netns, local(raw), local_port(raw))
}

/// The connection as its receiver sees it.
#[inline(always)]
fn flow(raw: *mut bpf_sock_ops) -> Flow {
    // SAFETY: the context is valid while the program runs. The kernel keeps the port in network order in the word.
    let far_port = u32::from_be(unsafe { (&raw const (*raw).remote_port).read_volatile() }) as u16;
    Flow { local: remote(raw), remote: local(raw), local_port: far_port, remote_port: local_port(raw) }
}

#[inline(always)]
fn local_port(raw: *mut bpf_sock_ops) -> u16 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (&raw const (*raw).local_port).read_volatile() as u16 }
}

#[inline(always)]
fn local(raw: *mut bpf_sock_ops) -> Address {
    // SAFETY: the context is valid while the program runs. An IPv6 socket that speaks IPv4 has v4-mapped addresses.
    unsafe {
        if is_v4(raw) {
            Address::from_v4_word((&raw const (*raw).local_ip4).read_volatile())
        } else {
            Address([
                (&raw const (*raw).local_ip6[0]).read_volatile(),
                (&raw const (*raw).local_ip6[1]).read_volatile(),
                (&raw const (*raw).local_ip6[2]).read_volatile(),
                (&raw const (*raw).local_ip6[3]).read_volatile(),
            ])
        }
    }
}

#[inline(always)]
fn remote(raw: *mut bpf_sock_ops) -> Address {
    // SAFETY: as in `local`.
    unsafe {
        if is_v4(raw) {
            Address::from_v4_word((&raw const (*raw).remote_ip4).read_volatile())
        } else {
            Address([
                (&raw const (*raw).remote_ip6[0]).read_volatile(),
                (&raw const (*raw).remote_ip6[1]).read_volatile(),
                (&raw const (*raw).remote_ip6[2]).read_volatile(),
                (&raw const (*raw).remote_ip6[3]).read_volatile(),
            ])
        }
    }
}

#[inline(always)]
fn is_v4(raw: *mut bpf_sock_ops) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { (&raw const (*raw).family).read_volatile() == AF_INET }
}
