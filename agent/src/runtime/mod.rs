//! What keeps the process in order: drain, readiness, tasks, threads. Knows nothing of the mesh.

pub mod drain;
pub mod rate;
pub mod ready;
pub mod shards;
pub mod tasks;
