//! The eBPF object, part of the binary; empty when the binary was built without it (`build.rs`).

/// The ELF file that `cargo xtask build` makes of the `ebpf` crate.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sotto-ebpf.o"));
