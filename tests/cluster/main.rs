//! Tests in a real cluster: kubelets, containers, and the network between them.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do ends the test")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures, and what agents said before a test failed")]

mod faults;
mod installed;
mod mesh;
mod nodes;
mod operator;
mod residue;
mod rights;
