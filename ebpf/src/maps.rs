//! Every map, and the few operations on them that programs share. The crate's documentation has the table.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::{HashMap, PerCpuArray, SkStorage, SockHash};
use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_sk_release, bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::btf_map;
use sotto_ebpf::abi::{
    Counter, Flow, ListenerKey, MAX_ADMITTED_FLOWS, MAX_KUBELETS, MAX_LISTENERS, MAX_ORIGINAL_DESTINATIONS, MAX_PODS,
    OriginalDestination, PodAddresses, SocketNote, SourceKey,
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
