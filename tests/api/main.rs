//! The state of a mesh from a real API server. Needs `SOTTO_KUBE_BIN`, a directory with `etcd` and `kube-apiserver`; no root.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do ends the test")]

mod controller;
mod following;
mod lab;
mod lapses;
mod objects;
mod outages;
mod rights;
mod scale;
