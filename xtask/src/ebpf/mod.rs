//! `cargo xtask ebpf`: the programs that run in the kernel, as one object file.

mod compile;
mod inspect;

pub(crate) use compile::{build, run};
