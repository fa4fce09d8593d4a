//! What keeps the process in order: drain, readiness, tasks, threads, shares of what is limited. Knows nothing of the mesh.

pub mod budget;
pub mod drain;
pub mod gather;
pub mod hints;
pub mod rate;
pub mod ready;
pub mod records;
pub mod shards;
pub mod tasks;
pub mod traffic;
