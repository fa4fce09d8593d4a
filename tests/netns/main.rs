//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

mod agent_away;
mod capture;
mod closing;
mod enrolment;
mod failover;
mod fixture;
mod harness_itself;
mod leftovers;
mod manifests;
mod peers;
mod plain;
mod same_node;
mod services;
