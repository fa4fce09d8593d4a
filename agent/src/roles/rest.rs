//! Gives back what an agent at rest does not need: a node has one agent, and memory for its pods.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::mesh::source::state::MeshState;
use crate::runtime::ready::Readiness;
use crate::sys::memory;

/// How long after a new state its making and the one before it are given back: others may follow, and take the same memory.
const PAUSE: Duration = Duration::from_secs(3);

/// Once everything is there, gives back what only the start needed, and from then on what each new state of the mesh leaves behind:
/// a large mesh is there twice while one state takes the place of another, and the allocator keeps the room of the second.
pub(super) async fn give_back(readiness: Readiness, mut mesh: watch::Receiver<Arc<MeshState>>) {
    readiness.ready().await;
    mesh.mark_unchanged();
    match memory::forget_unused() {
        Ok(bytes) => tracing::debug!(bytes, "code of the start is no longer mapped"),
        // The agent is then larger than it need be, and that is all.
        Err(error) => tracing::debug!(%error, "memory that the start used is kept"),
    }
    while mesh.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        mesh.mark_unchanged();
        // It takes milliseconds: not on the thread that everything else waits for.
        if tokio::task::spawn_blocking(memory::trim_if_much).await.is_err() {
            return;
        }
    }
}
