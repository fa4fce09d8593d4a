//! Where a pod's network namespace is.
//!
//! [`Locate`] is the question. `annotation` answers with the path in a manifest, `processes` with the pod's own processes, found by
//! its UID. Another answer (a path that a CNI plugin hands over) is one more implementation, which may fall back on these.

pub mod annotation;
pub mod handover;
pub mod locator;
pub mod processes;

mod cgroup_path;
mod proc;

pub use locator::{Locate, LocateError, Located, Sought};
