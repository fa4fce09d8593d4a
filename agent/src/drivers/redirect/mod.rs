//! The eBPF programs that hand sockets to the agent: loading, pinning, attaching, and the maps they share with it. Only this
//! folder knows aya.
//!
//! What survives the agent is pinned in one directory per agent on bpffs:
//!
//! ```text
//! /sys/fs/bpf/sotto/NODE/v3/            layout version; another version's directory is a predecessor
//!     PODS SOCKETS ...                  maps
//!     links/{connect4,sockops,...}      attached to the cgroup2 root
//!     pods/COOKIE/{inbound,hold}        attached to one pod's network namespace
//! ```
//!
//! When the agent dies all of it stays in force: applications' new connections wait, inbound ones are refused, nothing
//! leaves in clear text. The next agent takes the pins over and puts its own programs into the links, one atomic
//! replacement each.

mod config;
mod error;
mod features;
mod fill;
mod links;
mod load;
mod maps;
mod object;
mod owner;
mod pins;
mod pods;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use error::RedirectError;
pub use features::{Missing, Place, find_place, try_programs};
pub use fill::Maps;
pub use maps::counters::Counters;
pub use maps::direct::{Direct, EndedFlow, Ending, Ends, OpenFlow, bytes_so_far};
pub use maps::kubelets::Kubelets;
pub use maps::services::Endpoints;
pub use maps::sockets::{Sockets, Wanted};
pub use owner::Redirect;
pub use sotto_ebpf::abi::{HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT, PodAddresses, Role};
