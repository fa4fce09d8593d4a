//! What the eBPF programs and the agent share: layouts and pure decisions.
#![cfg_attr(target_arch = "bpf", no_std)]
