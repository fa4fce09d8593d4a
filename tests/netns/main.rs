//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do ends the test")]

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
mod policy;
mod same_node;
mod services;
