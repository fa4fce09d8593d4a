//! Nodes, pods, traffic and captures for tests.
