//! `cgroup/connect4`, `cgroup/connect6`: an enrolled pod's TCP connections go to the agent.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use sotto_ebpf::abi::{Address, Counter, OUTBOUND_PORT, SocketNote};
use sotto_ebpf::decide::{self, Outbound};

use crate::maps::{PODS, count, delete_note, note, write_note};
use crate::packet::{user_address_v6, user_port};

const ALLOW: i32 = 1;
/// connect() fails with EPERM.
const DENY: i32 = 0;
const IPPROTO_TCP: u32 = 6;

#[cgroup_sock_addr(connect4)]
fn sotto_connect4(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    // SAFETY: the context is valid while the program runs.
    let destination = Address::from_v4_word(unsafe { (&raw const (*raw).user_ip4).read_volatile() });
    match capture(&ctx, destination) {
        Verdict::Allow => ALLOW,
        Verdict::Deny => DENY,
        Verdict::Redirect(to) => {
            let Some(word) = to.v4_word() else { return DENY };
            // SAFETY: as above; connect hooks may write the destination.
            unsafe {
                (&raw mut (*raw).user_ip4).write_volatile(word);
                (&raw mut (*raw).user_port).write_volatile(u32::from(OUTBOUND_PORT.to_be()));
            }
            ALLOW
        }
    }
}

#[cgroup_sock_addr(connect6)]
fn sotto_connect6(ctx: SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    match capture(&ctx, user_address_v6(raw)) {
        Verdict::Allow => ALLOW,
        Verdict::Deny => DENY,
        Verdict::Redirect(to) => {
            // SAFETY: the context is valid while the program runs; connect hooks may write the destination.
            unsafe {
                (&raw mut (*raw).user_ip6[0]).write_volatile(to.0[0]);
                (&raw mut (*raw).user_ip6[1]).write_volatile(to.0[1]);
                (&raw mut (*raw).user_ip6[2]).write_volatile(to.0[2]);
                (&raw mut (*raw).user_ip6[3]).write_volatile(to.0[3]);
                (&raw mut (*raw).user_port).write_volatile(u32::from(OUTBOUND_PORT.to_be()));
            }
            ALLOW
        }
    }
}

enum Verdict {
    Allow,
    Deny,
    Redirect(Address),
}

#[inline(always)]
fn capture(ctx: &SockAddrContext, destination: Address) -> Verdict {
    let raw: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: the context is valid while the program runs, and a connect() always has a socket.
    let (protocol, socket) =
        unsafe { ((&raw const (*raw).protocol).read_volatile(), (&raw const (*raw).__bindgen_anon_1.sk).read_volatile()) };
    if protocol != IPPROTO_TCP {
        return Verdict::Allow;
    }
    let earlier = note(socket).map(|note| note.kind);
    if matches!(earlier, Some(SocketNote::OWN | SocketNote::DELIVERY)) {
        return Verdict::Allow;
    }
    // SAFETY: the helper takes the program's own context.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: the agent replaces entries, it never changes one in place; the addresses are copied at once.
    let Some(pod) = unsafe { PODS.get(netns) }.copied() else {
        if earlier.is_some() {
            delete_note(socket);
        }
        return Verdict::Allow;
    };
    let port = user_port(raw);
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
