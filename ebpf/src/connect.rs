//! `cgroup/connect4`, `cgroup/connect6`: an enrolled pod's TCP connections go to the agent.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_netns_cookie};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sotto_ebpf::abi::{Address, Counter, OUTBOUND_PORT, PodAddresses, SocketNote};
use sotto_ebpf::abi_direct::Target;
use sotto_ebpf::decide::redirect::{Outbound, outbound};

use crate::context::SockAddr;
use crate::direct::{self, Way};
use crate::maps::{KUBELETS, PODS, count, delete_note, note, write_note};

const ALLOW: i32 = 1;
/// connect() fails with EPERM.
const DENY: i32 = 0;
const IPPROTO_TCP: u32 = 6;

#[cgroup_sock_addr(connect4)]
fn sotto_connect4(ctx: SockAddrContext) -> i32 {
    let call = SockAddr(ctx.sock_addr);
    match capture(&ctx, call, call.address_v4(), call.source_v4()) {
        Verdict::Allow => ALLOW,
        Verdict::Deny => DENY,
        Verdict::Redirect(to) => {
            call.set_v4(to.ip.0[3], to.port);
            ALLOW
        }
    }
}

#[cgroup_sock_addr(connect6)]
fn sotto_connect6(ctx: SockAddrContext) -> i32 {
    let call = SockAddr(ctx.sock_addr);
    match capture(&ctx, call, call.address_v6(), call.source_v6()) {
        Verdict::Allow => ALLOW,
        Verdict::Deny => DENY,
        Verdict::Redirect(to) => {
            call.set_v6(to.ip, to.port);
            ALLOW
        }
    }
}

enum Verdict {
    Allow,
    Deny,
    /// To this address, of the family of the destination; v4-mapped on an IPv6 socket that asked for that.
    Redirect(Target),
}

#[inline(always)]
fn capture(ctx: &SockAddrContext, call: SockAddr, destination: Address, source: Address) -> Verdict {
    if call.protocol() != IPPROTO_TCP {
        return Verdict::Allow;
    }
    let socket = call.socket();
    let earlier = note(socket).map(|note| note.kind);
    if matches!(earlier, Some(SocketNote::OWN | SocketNote::DELIVERY)) {
        return Verdict::Allow;
    }
    // SAFETY: the helper takes the program's own context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: the agent replaces entries, it never changes one in place; the addresses are copied at once.
    let Some(pod) = unsafe { PODS.get(netns) }.copied() else {
        if is_kubelet(netns) {
            // Without room for the note its connection counts as any other in clear text.
            let _ = write_note(socket, SocketNote::of_kind(SocketNote::KUBELET));
        } else if earlier.is_some() {
            delete_note(socket);
        }
        return Verdict::Allow;
    };
    let port = call.port();
    match outbound(destination, port, &pod) {
        Outbound::AlreadyCaptured => Verdict::Allow,
        Outbound::LeaveAlone => {
            if earlier.is_some() {
                delete_note(socket);
            }
            Verdict::Allow
        }
        Outbound::Refuse => {
            count(Counter::RefusedNoAddress);
            Verdict::Deny
        }
        Outbound::Capture(to) => redirect(call, (netns, &pod), Target::new(destination, port), source, to),
    }
}

/// Sends the connection straight to a pod of this node if a verdict says so, else to the agent, on the pod's address `own`.
#[inline(always)]
fn redirect(
    call: SockAddr,
    (netns, pod): (u64, &PodAddresses),
    asked: Target,
    source: Address,
    own: Address,
) -> Verdict {
    let mut note =
        SocketNote { netns, destination: asked.ip, port: asked.port, ..SocketNote::of_kind(SocketNote::CAPTURED) };
    let mut to = Target::new(own, OUTBOUND_PORT);
    let mut counter = Counter::Captured;
    match direct::way(call, netns, pod, asked, source) {
        Some(Way { target, grant: Some(grant), .. }) => {
            note.kind = SocketNote::DIRECT;
            note.grant = grant;
            to = target;
            counter = Counter::Direct;
        }
        Some(Way { target, picked: true, .. }) => {
            note.picked = target.ip;
            note.picked_port = target.port;
        }
        _ => {}
    }
    if write_note(call.socket(), note).is_err() {
        count(Counter::RefusedNoNote);
        return Verdict::Deny;
    }
    count(counter);
    Verdict::Redirect(to)
}

/// Whether the process that connects is the kubelet, by the cgroup that it is in itself (not one above it: pods' may be below),
/// and the socket is in the network namespace that the kubelet's cgroup goes with, the node's.
#[inline(always)]
fn is_kubelet(netns: u64) -> bool {
    // SAFETY: the helper has no arguments.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: as for PODS.
    unsafe { KUBELETS.get(cgroup) }.copied() == Some(netns)
}
