//! Tests with the real agent, real eBPF and real sockets, on nodes and pods made of network namespaces. They need root.

mod harness_itself;
