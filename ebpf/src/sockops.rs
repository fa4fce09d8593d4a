//! `sockops`: says, before the first packet leaves, what connection is about to arrive.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use sotto_ebpf::abi::{Counter, Flow, OriginalDestination, SocketNote, SourceKey, admitted};
use sotto_ebpf::decide;

use crate::context::SockOps;
use crate::maps::{ADMITTED_FLOWS, ORIGINAL_DESTINATIONS, count, note};

const BPF_ANY: u64 = 0;

#[sock_ops]
fn sotto_sockops(ctx: SockOpsContext) -> u32 {
    let call = SockOps(ctx.ops);
    match call.operation() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx, call),
        BPF_SOCK_OPS_STATE_CB if call.new_state() == BPF_TCP_CLOSE as u32 => closed(call),
        _ => {}
    }
    0
}

/// connect() has chosen the source port and sends the SYN next.
#[inline(always)]
fn connecting(ctx: &SockOpsContext, call: SockOps) {
    let Some(note) = note_of(call) else { return };
    match note.kind {
        SocketNote::CAPTURED => {
            watch_state(ctx, call);
            let value = OriginalDestination {
                // SAFETY: reads a clock.
                written_ns: unsafe { bpf_ktime_get_boot_ns() },
                ip: note.destination,
                port: note.port,
                padding: [0; 3],
            };
            if ORIGINAL_DESTINATIONS.insert(source(note, call), value, BPF_ANY).is_err() {
                count(Counter::OriginalDestinationsFull);
            }
        }
        SocketNote::DELIVERY => admit(ctx, call, admitted::DELIVERY),
        SocketNote::KUBELET => admit(ctx, call, admitted::KUBELET),
        _ => {}
    }
}

/// From now until the socket closes, the connection may go to the application.
#[inline(always)]
fn admit(ctx: &SockOpsContext, call: SockOps, why: u32) {
    watch_state(ctx, call);
    if ADMITTED_FLOWS.insert(flow(call), why, BPF_ANY).is_err() {
        count(Counter::AdmittedFlowsFull);
    }
}

/// The socket has reached CLOSE: refused, reset, timed out, or handed over to TIME-WAIT.
#[inline(always)]
fn closed(call: SockOps) {
    let Some(note) = note_of(call) else { return };
    match note.kind {
        SocketNote::CAPTURED if decide::forget_when_closed(call.old_state()) => {
            // An entry that the agent took is not there; that is the usual case.
            let _ = ORIGINAL_DESTINATIONS.remove(source(note, call));
        }
        SocketNote::DELIVERY | SocketNote::KUBELET => {
            // One that found the map full is not there.
            let _ = ADMITTED_FLOWS.remove(flow(call));
        }
        _ => {}
    }
}

/// Asks for a call on each change of state. It can only fail for a socket that is not a full one, which a connecting
/// socket is.
#[inline(always)]
fn watch_state(ctx: &SockOpsContext, call: SockOps) {
    let _ = ctx.set_cb_flags((call.callback_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
}

#[inline(always)]
fn note_of(call: SockOps) -> Option<&'static SocketNote> {
    call.socket().and_then(note)
}

#[inline(always)]
fn source(note: &SocketNote, call: SockOps) -> SourceKey {
    SourceKey::new(note.netns, call.local(), call.local_port())
}

/// The connection as its receiver sees it.
#[inline(always)]
fn flow(call: SockOps) -> Flow {
    Flow { local: call.remote(), remote: call.local(), local_port: call.remote_port(), remote_port: call.local_port() }
}
