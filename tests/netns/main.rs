//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

mod agent_away;
mod around;
mod capture;
mod closing;
mod drain;
mod enrolment;
mod failover;
mod fixture;
mod harness_itself;
mod hostile_peers;
mod hostile_pods;
mod intruder;
mod leaks;
mod leftovers;
mod manifests;
mod peers;
mod plain;
mod restart;
mod same_node;
mod services;
mod usage;
