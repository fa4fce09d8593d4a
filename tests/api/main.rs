//! Tests with a real API server, without nodes: everything of Kubernetes that needs no pod to run.

mod server;
