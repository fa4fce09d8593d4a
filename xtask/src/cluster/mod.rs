//! `cargo xtask cluster`: a real Kubernetes on one machine, from Debian's packages and source.
//!
//! The control plane runs on the machine itself. A node is a set of processes (containerd, kubelet, kube-proxy) in
//! namespaces of their own, with writable folders of their own over the machine's; nothing is installed on the machine.

pub(crate) mod command;
mod control_plane;
mod daemon;
mod images;
mod kubectl;
pub(crate) mod lifecycle;
mod network;
mod node;
mod pki;
pub(crate) mod programs;
pub(crate) mod state;
