//! `cgroup/connect4`, `cgroup/connect6`: an enrolled pod's TCP connections go to the agent.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_netns_cookie};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sotto_ebpf::abi::{Address, Counter, OUTBOUND_PORT, SocketNote};
use sotto_ebpf::decide::{self, Outbound};

use crate::context::SockAddr;
use crate::maps::{KUBELETS, PODS, count, delete_note, note, write_note};

const ALLOW: i32 = 1;
/// connect() fails with EPERM.
const DENY: i32 = 0;
const IPPROTO_TCP: u32 = 6;

#[cgroup_sock_addr(connect4)]
fn sotto_connect4(ctx: SockAddrContext) -> i32 {
    let call = SockAddr(ctx.sock_addr);
    match capture(&ctx, call, call.address_v4()) {
        Verdict::Allow => ALLOW,
        Verdict::Deny => DENY,
        Verdict::Redirect(to) => {
            call.set_v4(to.0[3], OUTBOUND_PORT);
            ALLOW
        }
    }
}

#[cgroup_sock_addr(connect6)]
fn sotto_connect6(ctx: SockAddrContext) -> i32 {
    let call = SockAddr(ctx.sock_addr);
    match capture(&ctx, call, call.address_v6()) {
        Verdict::Allow => ALLOW,
        Verdict::Deny => DENY,
        Verdict::Redirect(to) => {
            call.set_v6(to, OUTBOUND_PORT);
            ALLOW
        }
    }
}

enum Verdict {
    Allow,
    Deny,
    /// To this address of the pod, of the family of the destination; v4-mapped on an IPv6 socket that asked for that.
    Redirect(Address),
}

#[inline(always)]
fn capture(ctx: &SockAddrContext, call: SockAddr, destination: Address) -> Verdict {
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
    match decide::outbound(destination, port, &pod) {
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
        Outbound::Capture(to) => {
            let note = SocketNote { netns, destination, kind: SocketNote::CAPTURED, port, padding: 0 };
            if write_note(socket, note).is_err() {
                count(Counter::RefusedNoNote);
                return Verdict::Deny;
            }
            count(Counter::Captured);
            Verdict::Redirect(to)
        }
    }
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
