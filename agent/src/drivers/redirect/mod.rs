//! The eBPF programs that hand sockets to the agent (aya).
