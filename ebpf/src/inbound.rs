//! `sk_lookup` in a pod's network namespace: chooses who takes a new connection.

use aya_ebpf::bindings::BPF_SK_LOOKUP_F_REPLACE;
use aya_ebpf::macros::sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use sotto_ebpf::abi::{Address, Counter, Flow, ListenerKey, Role, admitted};
use sotto_ebpf::decide::redirect::{Inbound, from_inside, inbound};

use crate::context::SkLookup;
use crate::direct::{self, Arrival};
use crate::maps::{ADMITTED_FLOWS, LISTENERS, count};

/// The kernel goes on as if there were no program, or takes the socket that was assigned.
const PASS: u32 = 1;
/// The kernel answers with RST.
const DROP: u32 = 0;
const IPPROTO_TCP: u32 = 6;
/// `lo` has this index in every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

#[sk_lookup]
fn sotto_inbound(ctx: SkLookupContext) -> u32 {
    let call = SkLookup(ctx.lookup);
    if call.protocol() != IPPROTO_TCP {
        return PASS;
    }
    let flow = call.flow();
    let inside = from_inside(call.device() == LOOPBACK_IFINDEX, flow.local, flow.remote);
    match inbound(flow.local_port, inside) {
        Inbound::Application => PASS,
        Inbound::Refuse => {
            count(Counter::RefusedReservedPort);
            DROP
        }
        Inbound::Listener(Role::Plaintext) => match direct::arrive(&flow) {
            Arrival::Admitted => PASS,
            Arrival::Withdrawn => DROP,
            Arrival::Unknown if is_admitted(&flow) => PASS,
            Arrival::Unknown => hand_over(ctx, flow.local, Role::Plaintext),
        },
        Inbound::Listener(role) => hand_over(ctx, flow.local, role),
    }
}

/// Gives the connection to the agent's listener. Its SO_REUSEPORT group stays in force, so the kernel spreads
/// connections over the agent's threads.
#[inline(always)]
fn hand_over(ctx: SkLookupContext, ip: Address, role: Role) -> u32 {
    let key = ListenerKey { ip, role: role as u32 };
    // Replacing makes a second run of the program choose the same again instead of failing.
    match LISTENERS.redirect_sk_lookup(ctx, key, u64::from(BPF_SK_LOOKUP_F_REPLACE)) {
        Ok(()) => PASS,
        Err(_) => {
            count(Counter::RefusedNoListener);
            DROP
        }
    }
}

/// Whether it is the agent that delivers this connection, or the kubelet that made it.
#[inline(always)]
fn is_admitted(flow: &Flow) -> bool {
    // SAFETY: values are replaced, never changed in place, and this one is copied at once.
    match unsafe { ADMITTED_FLOWS.get(flow) }.copied() {
        None => false,
        Some(admitted::KUBELET) => {
            count(Counter::Probes);
            true
        }
        Some(_) => true,
    }
}
