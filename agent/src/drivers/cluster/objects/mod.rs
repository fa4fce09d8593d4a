//! Single objects of a namespace, asked for one by one: what the authority keeps its root, its trust and its leadership in.

pub mod config_maps;
pub mod daemon_set;
pub mod leases;
pub mod secrets;

pub(super) mod place;
