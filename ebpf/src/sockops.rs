//! `sockops`: says, before the first packet leaves, what connection is about to arrive.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_SOCK_OPS_TIMEOUT_INIT, BPF_TCP_CLOSE, BPF_TCP_FIN_WAIT2, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_getsockopt, bpf_ktime_get_boot_ns, bpf_setsockopt};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use sotto_ebpf::abi::{
    Counter, Flow, OUTBOUND_PORT, OriginalDestination, SYN_RETRIES_MORE, SocketNote, SourceKey, admitted,
};
use sotto_ebpf::decide::redirect::forget_when_closed;

use crate::context::SockOps;
use crate::direct;
use crate::maps::{ADMITTED_FLOWS, ORIGINAL_DESTINATIONS, SYN_RETRY, count, note, note_mut};

const BPF_ANY: u64 = 0;
const IPPROTO_TCP: i32 = 6;
const TCP_SYNCNT: i32 = 7;
/// The kernel takes what this program, or another one at this hook, has replied: a single 0 would void all replies.
const TAKE_REPLY: u32 = 1;
const FIN_WAIT_2: u32 = BPF_TCP_FIN_WAIT2 as u32;
const CLOSE: u32 = BPF_TCP_CLOSE as u32;

#[sock_ops]
fn sotto_sockops(ctx: SockOpsContext) -> u32 {
    let call = SockOps(ctx.ops);
    match call.operation() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx, call),
        BPF_SOCK_OPS_TIMEOUT_INIT => first_wait(call),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(call),
        BPF_SOCK_OPS_STATE_CB => match call.new_state() {
            FIN_WAIT_2 => half_closed(call),
            CLOSE => closed(call),
            _ => {}
        },
        _ => {}
    }
    TAKE_REPLY
}

/// connect() has chosen the source port and sends the SYN next.
#[inline(always)]
fn connecting(ctx: &SockOpsContext, call: SockOps) {
    let Some(note) = note_of(call) else { return };
    match note.kind {
        SocketNote::CAPTURED => remember(ctx, call, note),
        // Sent to the agent after all, by the programs of an agent that this one takes over from.
        SocketNote::DIRECT if call.remote_port() == OUTBOUND_PORT => remember(ctx, call, note),
        SocketNote::DIRECT => {
            watch_state(ctx, call);
            direct::begin(call, note, &flow(call));
        }
        SocketNote::DELIVERY => admit(ctx, call, admitted::DELIVERY),
        SocketNote::KUBELET => admit(ctx, call, admitted::KUBELET),
        _ => {}
    }
}

/// How long a socket waits for the answer to its first packet. One whose first packet is held while no agent is there comes to the
/// next one soon. The kernel may ask more than once.
#[inline(always)]
fn first_wait(call: SockOps) {
    if note_of(call).is_some_and(|note| note.kind == SocketNote::CAPTURED)
        && let Some(ticks) = retry_ticks()
    {
        call.set_reply(ticks);
    }
}

#[inline(always)]
fn retry_ticks() -> Option<u32> {
    SYN_RETRY.get(0).copied().filter(|ticks| *ticks > 0)
}

/// Keeps how long all tries take together, though the first come sooner.
#[inline(always)]
fn try_more_often(call: SockOps) {
    if retry_ticks().is_none() {
        return;
    }
    let mut tries: i32 = 0;
    let context: *mut bpf_sock_ops = call.0;
    // SAFETY: the helpers take the program's own context, and read or write a value of the length that they are told.
    unsafe {
        if bpf_getsockopt(context.cast(), IPPROTO_TCP, TCP_SYNCNT, (&raw mut tries).cast(), 4) == 0 {
            tries += SYN_RETRIES_MORE;
            let _ = bpf_setsockopt(context.cast(), IPPROTO_TCP, TCP_SYNCNT, (&raw mut tries).cast(), 4);
        }
    }
}

/// The agent will ask where this one wanted to go.
#[inline(always)]
fn remember(ctx: &SockOpsContext, call: SockOps, note: &SocketNote) {
    watch_state(ctx, call);
    try_more_often(call);
    let value = OriginalDestination {
        // SAFETY: reads a clock.
        written_ns: unsafe { bpf_ktime_get_boot_ns() },
        ip: note.destination,
        picked: note.picked,
        port: note.port,
        picked_port: note.picked_port,
        padding: 0,
    };
    if ORIGINAL_DESTINATIONS.insert(source(note, call), value, BPF_ANY).is_err() {
        count(Counter::OriginalDestinationsFull);
    }
}

/// The server has answered, and the application's data may go next.
#[inline(always)]
fn established(call: SockOps) {
    if let Some(note) = call.socket().and_then(note_mut)
        && note.kind == SocketNote::DIRECT
        && call.remote_port() != OUTBOUND_PORT
    {
        direct::establish(call, note, &flow(call));
    }
}

/// The client's end of the connection is closed and acknowledged.
#[inline(always)]
fn half_closed(call: SockOps) {
    if let Some(note) = call.socket().and_then(note_mut)
        && note.kind == SocketNote::DIRECT
    {
        note.received_at_end = call.bytes_received();
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
        SocketNote::CAPTURED if forget_when_closed(call.old_state()) => {
            // An entry that the agent took is not there; that is the usual case.
            let _ = ORIGINAL_DESTINATIONS.remove(source(note, call));
        }
        SocketNote::DIRECT => direct::end(call, note, &flow(call), call.old_state()),
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
