//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

mod around;
mod capture;
mod closing;
mod enrolment;
mod fixture;
mod harness_itself;
mod hostile;
mod life;
mod manifests;
mod peers;
mod plain;
mod same_node;
mod services;
