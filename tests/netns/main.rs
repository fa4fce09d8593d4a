//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

mod agent_away;
mod capture;
mod closing;
mod enrolment;
mod failover;
mod fixture;
mod harness_itself;
mod identity;
mod leftovers;
mod manifests;
mod plain;
mod policy;
mod same_node;
mod services;
