//! Two pods of this node that talk straight to each other: the agent gives the verdict, the kernel enforces it, and no byte passes
//! through here.
//!
//! ```text
//! first connection ─▶ outbound relays ─▶ ask ─▶ director: policy? ─▶ VERDICTS
//! those after it   ─▶ connect: verdict? ─▶ straight to the pod ─▶ inbound: verdict still? ─▶ application
//! mesh changes     ─▶ director reviews ─▶ verdict out ─▶ open connections severed
//! while it is open ─▶ report: bytes, as the kernel counts them (measure); live: what operators see
//! connection ends  ─▶ FLOW_EVENTS ─▶ report: counters and access log of both sides
//! ```
//!
//! One task decides: who asks never writes a verdict that has been overtaken by a change of the mesh.

pub mod ask;
pub mod director;
mod grants;
mod measure;
mod namespaces;
mod report;
mod services;
mod sever;
