//! tc ingress on a pod's `lo`: *hold*. While the agent has no outbound listener, the SYN of a captured connection is dropped
//! without an answer, so the application's connect() waits in its retransmissions and succeeds once the agent is back.
//!
//! Ingress and not egress: a drop on egress is reported to TCP, which then retries every half second and gives up
//! after a few of them.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use sotto_ebpf::abi::{Counter, ListenerKey, OUTBOUND_PORT, Role};

use crate::maps::{count, has_listener};
use crate::packet::segment;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[classifier]
fn sotto_hold(ctx: TcContext) -> i32 {
    if is_held(&ctx).unwrap_or(false) {
        count(Counter::HeldSyns);
        return TC_ACT_SHOT;
    }
    // Other programs on `lo` have their say.
    TC_ACT_UNSPEC
}

#[inline(always)]
fn is_held(ctx: &TcContext) -> Option<bool> {
    let segment = segment(ctx)?;
    if ctx.load::<u16>(segment.tcp + 2).ok()? != OUTBOUND_PORT.to_be() {
        return Some(false);
    }
    if ctx.load::<u8>(segment.tcp + 13).ok()? & (SYN | ACK) != SYN {
        return Some(false);
    }
    Some(!has_listener(&ListenerKey { ip: segment.destination, role: Role::Outbound as u32 }))
}
