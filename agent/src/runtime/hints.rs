//! Hints that something in a directory has changed. Hints only: inotify is mute about targets of symbolic links, network file
//! systems and when its watches are exhausted, so whoever uses them looks now and then without one.

use std::path::Path;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Hints come for as long as it lives.
#[derive(Debug)]
pub struct DirectoryWatch {
    _watcher: RecommendedWatcher,
}

/// Notifies `hint` whenever something in `directory` has changed. None, with a warning, when the kernel gives no hints.
pub fn watch_directory(directory: &Path, hint: &Arc<Notify>) -> Option<DirectoryWatch> {
    let hint = Arc::clone(hint);
    let on_event = move |event: notify::Result<Event>| {
        // An error (say, an overflow) is a reason to look, too.
        if event.is_ok_and(|event| is_reading(event.kind)) {
            return;
        }
        hint.notify_one();
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    let warn = |error: &notify::Error| {
        tracing::warn!(%error, directory = %directory.display(), "no file events: changes are found by rescans only");
    };
    watcher.inspect_err(warn).ok().map(|watcher| DirectoryWatch { _watcher: watcher })
}

/// Opening and reading, which whoever looks does itself: hints from it would never end.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
