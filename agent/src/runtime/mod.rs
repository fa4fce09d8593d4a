//! What keeps the process in order: drain, readiness, tasks, threads. Knows nothing of the mesh.

pub mod drain;
pub mod ready;
pub mod rate;
pub mod shards;
pub mod tasks;
