//! Nodes, pods, traffic and wire captures for tests: a mesh on one machine, made of network namespaces.
//!
//! ```no_run
//! # use harness::{Marker, Mesh};
//! let Some(mesh) = Mesh::new("example") else { return };
//! let (a, b) = (mesh.node("a"), mesh.node("b"));
//! let client = a.pod("client").start();
//! let server = b.pod("server").start();
//! server.serve_echo(8080);
//!
//! let marker = Marker::new();
//! let capture = mesh.capture();
//! client.connect(server.addr(8080)).exchange(&marker);
//! capture.stop().assert_clear_text_seen(&marker);
//! ```
//!
//! Everything that goes wrong in here panics with a sentence that names the object: this is the vocabulary of tests.
//! All addresses live in the mesh's own namespaces, so any number of meshes may run side by side. What a mesh made is gone
//! when it goes out of scope, also by a panic; what a killed process left behind is swept by the next one.

mod agent;
pub mod kube;
mod leftovers;
mod manifests;
mod mesh;
mod netns;
mod node;
mod pod;
mod process;
pub mod traffic;
mod wait;
pub mod wire;

pub use self::kube::{ApiServer, BareCluster, Controller, Gate};
pub use agent::{
    AccessEntry, Agent, AgentBuilder, Metrics, NodeZtunnel, Prometheus, Series, Told, Ztunnel, ZtunnelProgram, operate,
};
pub use manifests::{Policy, PolicyBuilder, Service, ServiceBuilder};
pub use mesh::{Mesh, NamespaceHandle, clean_up_on_signals};
pub use netns::Netns;
pub use node::Node;
pub use pod::{Pod, PodBuilder};
pub use process::Process;
pub use traffic::{Cgroup, Conn, External, Server, Site, dial_from};
pub use wait::{DEADLINE, eventually, holds_for};
pub use wire::{Capture, Marker, Wire};
