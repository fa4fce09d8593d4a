//! Connections between two pods of this node that go straight from one to the other: who may, and what becomes of them.
//!
//! The agent's verdict is looked up twice. When the application connects, it decides whether the connection goes directly at all;
//! when the first packet arrives, the same verdict has to be in force still. The connection is written down between the two, so
//! that an agent that first withdraws a verdict and then looks for its connections misses none.

use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, bpf_sock_ops};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_setsockopt};
use sotto_ebpf::abi::{Address, Counter, Flow, PodAddresses, SocketNote};
use sotto_ebpf::abi_direct::{DirectFlow, EndpointKey, FlowEnd, Target, VerdictKey, ending, stage};
use sotto_ebpf::decide::direct::{ended_in_order, pick, speaks_for_itself, totals};
use sotto_ebpf::decide::tcp;

use crate::context::{SockAddr, SockOps};
use crate::maps::{DIRECT_FLOWS, ENDPOINTS, FLOW_EVENTS, LEASE, PODS, SERVICES, VERDICTS, count};

const BPF_ANY: u64 = 0;

const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
const IPPROTO_TCP: i32 = 6;
const TCP_USER_TIMEOUT: i32 = 18;

/// The way of one connect().
pub(crate) struct Way {
    /// The pod or endpoint that the connection goes to.
    pub(crate) target: Target,
    /// Whether `target` was picked among a service's endpoints.
    pub(crate) picked: bool,
    /// The verdict that lets it go directly, if there is one.
    pub(crate) grant: Option<u64>,
}

/// Finds out where a connect() of an enrolled pod leads. `None`: nothing goes directly at the moment.
#[inline(always)]
pub(crate) fn way(call: SockAddr, netns: u64, pod: &PodAddresses, asked: Target, source: Address) -> Option<Way> {
    if !lease_holds() {
        return None;
    }
    let endpoint = endpoint(&asked);
    let (target, picked) = (endpoint.unwrap_or(asked), endpoint.is_some());
    // SAFETY: values are replaced, never changed in place, and this one is copied at once.
    let grant = unsafe { VERDICTS.get(VerdictKey::new(netns, target.ip, target.port)) }.copied();
    let may = speaks_for_itself(source, target.ip, pod) && !call.has_its_own_way();
    Some(Way { target, picked, grant: grant.filter(|_| may) })
}

/// One of the endpoints behind a service's port, if the programs know it.
#[inline(always)]
fn endpoint(asked: &Target) -> Option<Target> {
    // SAFETY: as above.
    let set = unsafe { SERVICES.get(asked) }.copied()?;
    // SAFETY: the helper has no arguments.
    let index = pick(unsafe { bpf_get_prandom_u32() }, set.count);
    // SAFETY: as above.
    unsafe { ENDPOINTS.get(EndpointKey { set: set.number, index }) }.copied()
}

#[inline(always)]
fn lease_holds() -> bool {
    // SAFETY: reads a clock.
    LEASE.get(0).is_some_and(|until| *until > unsafe { bpf_ktime_get_boot_ns() })
}

/// The client's first packet leaves next: from now on the connection is known.
#[inline(always)]
pub(crate) fn begin(call: SockOps, note: &SocketNote, flow: &Flow) {
    // SAFETY: as above.
    let Some(pod) = unsafe { PODS.get(note.netns) }.copied() else { return };
    // A pod may have further addresses, and routes that choose them; the verdict is about this one.
    if !speaks_for_itself(flow.remote, flow.local, &pod) {
        return;
    }
    let entry = DirectFlow {
        grant: note.grant,
        netns: note.netns,
        // SAFETY: the helper takes the program's own context.
        socket: unsafe { bpf_get_socket_cookie(call.0.cast()) },
        // SAFETY: reads a clock.
        began_ns: unsafe { bpf_ktime_get_boot_ns() },
        asked: note.destination,
        asked_port: note.port,
        padding: 0,
        stage: stage::BEGUN,
    };
    if DIRECT_FLOWS.insert(flow, entry, BPF_ANY).is_err() {
        count(Counter::DirectFlowsFull);
    }
}

/// What a pod makes of a connection that arrives.
pub(crate) enum Arrival {
    /// It is no direct one.
    Unknown,
    /// Its verdict is in force.
    Admitted,
    /// Its verdict was withdrawn.
    Withdrawn,
}

/// Looks at the first packet of a connection.
#[inline(always)]
pub(crate) fn arrive(flow: &Flow) -> Arrival {
    let Some(entry) = DIRECT_FLOWS.get_ptr_mut(flow) else { return Arrival::Unknown };
    // SAFETY: the pointer was checked against null, and entries outlive the program's run.
    let entry = unsafe { &mut *entry };
    // SAFETY: as above.
    let grant = unsafe { VERDICTS.get(VerdictKey::new(entry.netns, flow.local, flow.local_port)) }.copied();
    if grant != Some(entry.grant) {
        count(Counter::DirectWithdrawn);
        return Arrival::Withdrawn;
    }
    if entry.stage == stage::BEGUN {
        entry.stage = stage::ARRIVED;
    }
    Arrival::Admitted
}

/// The client has an answer. If the connection has not been seen to arrive on this node, it is somebody else who answered: the pod
/// may be gone and its address in use elsewhere. Nothing of the application leaves then.
#[inline(always)]
pub(crate) fn establish(call: SockOps, note: &mut SocketNote, flow: &Flow) {
    if let Some(entry) = DIRECT_FLOWS.get_ptr_mut(flow) {
        // SAFETY: as in `arrive`.
        let entry = unsafe { &mut *entry };
        if entry.stage == stage::ARRIVED && entry.grant == note.grant {
            entry.stage = stage::ESTABLISHED;
            return;
        }
    }
    count(Counter::DirectStrayed);
    cut(call);
    withdraw(note, flow);
}

/// From the next packet on the socket speaks to its own namespace's `lo` only, where nobody answers, and gives up at once.
#[inline(always)]
fn cut(call: SockOps) {
    let mut device = *b"lo\0\0";
    let mut timeout: u32 = 1;
    let context: *mut bpf_sock_ops = call.0;
    // SAFETY: the helper takes the program's own context, and reads values of the length it is told.
    unsafe {
        let _ = bpf_setsockopt(context.cast(), SOL_SOCKET, SO_BINDTODEVICE, device.as_mut_ptr().cast(), 3);
        let _ = bpf_setsockopt(context.cast(), IPPROTO_TCP, TCP_USER_TIMEOUT, (&raw mut timeout).cast(), 4);
    }
}

/// The next connection goes through the agent, which finds another endpoint, or grants anew.
#[inline(always)]
fn withdraw(note: &SocketNote, flow: &Flow) {
    let _ = VERDICTS.remove(VerdictKey::new(note.netns, flow.local, flow.local_port));
}

/// The client's socket has closed, coming from TCP state `old`.
#[inline(always)]
pub(crate) fn end(call: SockOps, note: &SocketNote, flow: &Flow, old: u32) {
    // SAFETY: as in `way`.
    let Some(entry) = unsafe { DIRECT_FLOWS.get(flow) }.copied() else { return };
    let _ = DIRECT_FLOWS.remove(flow);
    let ending = match entry.stage {
        stage::ESTABLISHED if ended_in_order(old) => ending::CLOSED,
        stage::ESTABLISHED => ending::ABORTED,
        _ if old == tcp::SYN_SENT => ending::REFUSED,
        _ => ending::STRAYED,
    };
    let for_service = note.destination != flow.local || note.port != flow.local_port;
    if ending == ending::REFUSED && for_service {
        withdraw(note, flow);
    }
    let totals = totals(call.bytes_acknowledged(), call.bytes_received(), note.received_at_end, old);
    tell(FlowEnd {
        grant: entry.grant,
        netns: entry.netns,
        began_ns: entry.began_ns,
        // SAFETY: reads a clock.
        ended_ns: unsafe { bpf_ktime_get_boot_ns() },
        sent: totals.sent,
        received: totals.received,
        flow: *flow,
        asked: entry.asked,
        asked_port: entry.asked_port,
        padding: 0,
        ending,
        padding_too: 0,
    });
}

#[inline(always)]
fn tell(event: FlowEnd) {
    let Some(mut slot) = FLOW_EVENTS.reserve(0) else {
        count(Counter::FlowEventsFull);
        return;
    };
    slot.write(event);
    // Waking the agent for each would cost more than the connection; it looks by itself, many times a second.
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
}
