//! The Kubernetes API server. Only this folder knows kube.
//!
//! `client` asks, `resource` and `discovery` say for what and in which version, `page` and `event` take the answers apart without
//! making more of them than one object at a time, `follow` keeps a collection up to date, `pods` is what a node writes about its pods.
//! `agents` is how an operator reaches the agents of all nodes.
//! The authority asks for single things: `review`, `node_pods`, and the few `objects` that it keeps its state in.
//!
//! What is read is list and watch as Kubernetes has had them since 1.16, by hand: objects go from the wire into the caller's own
//! slim types, one that cannot be read spoils no other, and nothing of an object outlives its decoding.

pub mod agents;
pub mod client;
pub mod error;
pub mod follow;
pub mod node_pods;
pub mod objects;
pub mod pods;
pub mod resource;
pub mod review;

mod backoff;
mod discovery;
mod event;
mod page;

pub use client::Cluster;
pub use error::ApiError;
