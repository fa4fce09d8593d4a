//! Pods joining and leaving the mesh on this node.
//!
//! Level-triggered: whatever happened, the pods that are carried are made to match the pods that ought to be. A pod that cannot
//! join yet is tried again; one that a dead agent had enrolled, or whose namespace is not to be found any more, stays captured
//! meanwhile, and its connections wait.
//!
//! ```text
//! join:   certificate ─▶ namespace set up (reply path) ─▶ listeners ─▶ sk_lookup, hold ─▶ threads serve ─▶ capture
//! leave:  capture off ─▶ sk_lookup, hold off ─▶ listeners close ─▶ last connection ends ─▶ namespace cleaned
//! ```

pub mod handover;
pub mod held;
pub mod join;
pub mod listeners;
pub mod locate;
mod map_watch;
mod namespace;
pub mod plan;
pub mod reception;
pub mod reconcile;
pub mod status;

mod waiting;
