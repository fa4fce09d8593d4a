//! Every map, and the few operations on them that programs share. The crate's documentation has the table.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf, SkStorage, SockHash};
use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_sk_release, bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::btf_map;
use sotto_ebpf::abi::{
    Counter, Flow, ListenerKey, MAX_ADMITTED_FLOWS, MAX_KUBELETS, MAX_LISTENERS, MAX_ORIGINAL_DESTINATIONS, MAX_PODS,
    OriginalDestination, PodAddresses, SocketNote, SourceKey,
};
use sotto_ebpf::abi_direct::{
    DirectFlow, EndpointKey, EndpointSet, FLOW_EVENTS_BYTES, FlowEnd, MAX_DIRECT_FLOWS, MAX_ENDPOINTS,
    MAX_SERVICE_PORTS, MAX_VERDICTS, Target, VerdictKey,
};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub(crate) static PODS: HashMap<u64, PodAddresses, MAX_PODS, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub(crate) static SOCKETS: SkStorage<SocketNote> = SkStorage::new();

#[btf_map]
pub(crate) static ORIGINAL_DESTINATIONS: HashMap<
    SourceKey,
    OriginalDestination,
    MAX_ORIGINAL_DESTINATIONS,
    NO_PREALLOC,
> = HashMap::new();

#[btf_map]
pub(crate) static ADMITTED_FLOWS: HashMap<Flow, u32, MAX_ADMITTED_FLOWS, NO_PREALLOC> = HashMap::new();

/// Id of the kubelet's cgroup → cookie of the node's network namespace.
#[btf_map]
pub(crate) static KUBELETS: HashMap<u64, u64, MAX_KUBELETS, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub(crate) static LISTENERS: SockHash<ListenerKey, MAX_LISTENERS> = SockHash::new();

/// After how many of the kernel's ticks the first packet of a captured connection is sent again; 0 as usual.
#[btf_map]
pub(crate) static SYN_RETRY: Array<u32, 1> = Array::new();

/// Who may connect directly to what, with the number of the agent's grant.
#[btf_map]
pub(crate) static VERDICTS: HashMap<VerdictKey, u64, MAX_VERDICTS, NO_PREALLOC> = HashMap::new();

/// Until when verdicts count: nanoseconds on `CLOCK_BOOTTIME`. An agent that is gone, or hangs, renews it no longer.
#[btf_map]
pub(crate) static LEASE: Array<u64, 1> = Array::new();

#[btf_map]
pub(crate) static DIRECT_FLOWS: HashMap<Flow, DirectFlow, MAX_DIRECT_FLOWS, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub(crate) static SERVICES: HashMap<Target, EndpointSet, MAX_SERVICE_PORTS, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub(crate) static ENDPOINTS: HashMap<EndpointKey, Target, MAX_ENDPOINTS, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub(crate) static FLOW_EVENTS: RingBuf<FlowEnd, FLOW_EVENTS_BYTES> = RingBuf::new();

#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Counter::COUNT }> = PerCpuArray::new();

/// Adds one to a counter.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's alone, and the pointer was checked against null.
        unsafe { *value += 1 };
    }
}

/// The note about a socket, if there is one.
#[inline(always)]
pub(crate) fn note(socket: *mut bpf_sock) -> Option<&'static SocketNote> {
    // SAFETY: the verifier has seen that the socket is not null; the kernel answers null or the socket's note, which
    // lives as long as the socket, and so longer than the program runs.
    unsafe { bpf_sk_storage_get(notes(), socket.cast(), core::ptr::null_mut(), 0).cast::<SocketNote>().as_ref() }
}

/// The same, to be changed.
#[inline(always)]
pub(crate) fn note_mut(socket: *mut bpf_sock) -> Option<&'static mut SocketNote> {
    // SAFETY: as in `note`; the hooks of one socket run one after another, under its lock.
    unsafe { bpf_sk_storage_get(notes(), socket.cast(), core::ptr::null_mut(), 0).cast::<SocketNote>().as_mut() }
}

/// Writes the note about a socket, over an earlier one.
///
/// Fails when the socket's option memory (`net.core.optmem_max`) is used up.
#[inline(always)]
pub(crate) fn write_note(socket: *mut bpf_sock, mut note: SocketNote) -> Result<(), ()> {
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as in `note`; the kernel copies the initial value before it returns.
    unsafe {
        let slot = bpf_sk_storage_get(notes(), socket.cast(), (&raw mut note).cast(), create).cast::<SocketNote>();
        if slot.is_null() {
            return Err(());
        }
        *slot = note;
    }
    Ok(())
}

/// Forgets the note about a socket.
#[inline(always)]
pub(crate) fn delete_note(socket: *mut bpf_sock) {
    // SAFETY: as in `note`. The answer says only whether there was a note.
    let _ = unsafe { bpf_sk_storage_delete(notes(), socket.cast()) };
}

#[inline(always)]
fn notes() -> *mut core::ffi::c_void {
    core::ptr::from_ref(&SOCKETS).cast_mut().cast()
}

/// Whether the agent listens for a pod in a role.
#[inline(always)]
pub(crate) fn has_listener(key: &ListenerKey) -> bool {
    // SAFETY: the kernel answers null or a listening socket that it holds for the program until it is released, here.
    unsafe {
        let map = core::ptr::from_ref(&LISTENERS).cast_mut().cast();
        let socket = bpf_map_lookup_elem(map, core::ptr::from_ref(key).cast());
        if socket.is_null() {
            return false;
        }
        let _ = bpf_sk_release(socket);
        true
    }
}
