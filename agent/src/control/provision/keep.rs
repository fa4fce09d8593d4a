//! Keeps the plugin in the chain while the agent runs, whatever other plugins write.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::node::{Chain, Node, ProvisionError};
use crate::runtime::hints::watch_directory;

/// How often the chain is looked at without a hint.
const RESCAN: Duration = Duration::from_secs(2);

/// The least time between two looks: another plugin may insist on its own list.
const BREATH: Duration = Duration::from_millis(50);

/// Looks and mends until `shutdown`.
pub async fn keep(node: Node, shutdown: impl Future<Output = ()>) {
    let node = Arc::new(node);
    let hint = Arc::new(Notify::new());
    let mut watcher = None;
    let mut last = None;
    tokio::pin!(shutdown);
    loop {
        // The directory may come only later, or be replaced: a look follows whether there are hints or not.
        watcher = watcher.or_else(|| watch_directory(&node.conf_dir, &hint));
        let looked = {
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || node.extend()).await
        };
        // The runtime is going down.
        let Ok(looked) = looked else { return };
        tell(&looked, &mut last);
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(RESCAN) => {}
            () = hint.notified() => tokio::time::sleep(BREATH).await,
        }
    }
}

fn tell(looked: &Result<Chain, ProvisionError>, last: &mut Option<String>) {
    let summary = match looked {
        Ok(chain) => format!("{chain:?}"),
        Err(error) => error.to_string(),
    };
    if last.as_ref() == Some(&summary) {
        return;
    }
    match looked {
        Ok(Chain::Extended(path)) => tracing::info!(file = %path.display(), "the CNI plugin is in the chain now"),
        Ok(Chain::InPlace(_)) => {}
        Ok(Chain::NoneYet) => tracing::warn!("no network plugin is configured yet, so there is no chain to join"),
        Err(error) => {
            tracing::error!(%error, "the CNI plugin is not in the chain: new pods join the mesh only after they have started");
        }
    }
    *last = Some(summary);
}
