//! Every call into the kernel that the standard library does not offer.

pub mod bpf;
pub mod capability;
pub mod cgroup;
pub mod clock;
pub mod limits;
pub mod loopback;
pub mod memory;
pub mod mount;
mod netlink;
pub mod netns;
pub mod process;
pub mod profile;
pub mod reply_path;
pub mod sock_diag;
pub mod socket;
