//! Every call into the kernel that the standard library does not offer.

pub mod bpf;
pub mod capability;
pub mod cgroup;
pub mod clock;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod netns;
pub mod pod;
pub mod process;
pub mod profile;
pub mod sock_diag;
pub mod socket;
