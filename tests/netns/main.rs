//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

mod agent_away;
mod capture;
mod closing;
mod containment;
mod enrolment;
mod failover;
mod fixture;
mod harness_itself;
mod identity;
mod manifests;
mod plain;
mod same_node;
mod services;
