//! Keeps the state up to date while the agent runs.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::mesh::source::state::MeshState;
use crate::runtime::hints::{DirectoryWatch, watch_directory};

use super::list::Place;
use super::manifests::{Manifests, Step};

/// How often the directory is looked at without a hint: the truth where inotify is mute (targets of symbolic links,
/// network file systems, exhausted watches).
pub const RESCAN: Duration = Duration::from_millis(500);

/// The least time between two looks, however many hints there are.
const BREATH: Duration = Duration::from_millis(10);

/// Publishes every new state until `shutdown`. The caller drives it; it is the only writer of `sender`.
///
/// Start with the state that [`Manifests::load`] gave: `watch::channel(manifests.state())`.
pub async fn run(mut manifests: Manifests, sender: watch::Sender<Arc<MeshState>>, shutdown: impl Future<Output = ()>) {
    let hint = Arc::new(Notify::new());
    let mut watched: Option<(Place, Option<DirectoryWatch>)> = None;
    tokio::pin!(shutdown);
    loop {
        let Some((stepped, step)) = step_aside(manifests).await else {
            return;
        };
        manifests = stepped;
        if step.changed {
            sender.send_replace(manifests.state());
        }
        let place = watched.as_ref().map(|(place, _)| *place);
        if step.place != place {
            // Another directory has taken its place, or none: the watch went with the old one.
            watched = step.place.map(|place| (place, watch_directory(manifests.directory(), &hint)));
            // What changed between the look and the watch.
            hint.notify_one();
        }
        let wait = step.again.unwrap_or(RESCAN).min(RESCAN);
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(wait) => {}
            () = hint.notified() => tokio::time::sleep(BREATH).await,
        }
    }
}

/// One step on a thread that may block. None if the runtime is going down.
async fn step_aside(mut manifests: Manifests) -> Option<(Manifests, Step)> {
    let stepping = tokio::task::spawn_blocking(move || {
        let step = manifests.step(Instant::now());
        (manifests, step)
    });
    match stepping.await {
        Ok(stepped) => Some(stepped),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => None,
        },
    }
}
