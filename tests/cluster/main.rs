//! Tests in a real cluster: kubelets, containers, and the network between them.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do ends the test")]

mod nodes;
