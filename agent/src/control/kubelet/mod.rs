//! Which process on the node is the kubelet: its probes and lifecycle hooks reach pods whatever policy says.
//!
//! It is known by its cgroup, which systemd makes and nobody can enter who is not root on the node. A name, a user or an
//! address would not do: another process can have the same.

pub mod find;
pub mod follow;
