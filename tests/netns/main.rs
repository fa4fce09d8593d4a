//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do ends the test")]

mod capture;
mod enrolment;
mod fixture;
mod harness_itself;
mod hostile;
mod life;
mod manifests;
mod observe;
mod peers;
mod policy;
mod relay;
mod same_node;
mod services;
