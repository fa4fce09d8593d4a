//! A way to reach a service or a workload.
//!
//! ```text
//! original destination ── route ──▶ candidate addresses ── attempts ──▶ one address ── route::hop ──▶ how to get there
//!                                                                                          │
//!                                        same node: dial in the other pod's namespace ◀────┤
//!                                        enrolled elsewhere: pool ─▶ TLS ─▶ a stream ◀─┤
//!                                        outside the mesh: dial as it was asked for ◀──────┘
//! ```

pub mod attempts;
pub mod dial;
pub mod options;
pub mod pool;
pub mod route;
