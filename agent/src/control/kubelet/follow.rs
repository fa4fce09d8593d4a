//! Keeping the programs' idea of the kubelet up to date: a restart of the kubelet gives it another cgroup of the same name.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::find::{KubeletCgroup, KubeletStatus};
use crate::drivers::redirect::Kubelets;
use crate::sys::cgroup::{self, CgroupMount};
use crate::sys::netns::NetnsCookie;

/// How often to look; a new kubelet begins to probe later than that. Ids of cgroups are not used twice, so looking late closes the
/// door too long and never opens it to another.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for the kubelet's cgroup, again and again; never completes. `root` is the root of the node's hierarchy, where that is known.
pub async fn follow(
    mut kubelets: Kubelets,
    (root, place): (Option<PathBuf>, KubeletCgroup),
    node: NetnsCookie,
    status: watch::Sender<KubeletStatus>,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        let known = root.clone().map(|path| Ok(vec![CgroupMount { path, is_root: true }]));
        let found = match known.unwrap_or_else(cgroup::mounts) {
            Ok(mounts) => place.find(&mounts),
            Err(error) => {
                tracing::warn!(%error, "cannot see where cgroups are mounted");
                continue;
            }
        };
        if told.as_ref() == Some(&found) {
            continue;
        }
        if let Err(error) = kubelets.set(found.id, node) {
            tracing::warn!(%error, "cannot tell the programs who the kubelet is; trying again");
            continue;
        }
        tell(&place, &found);
        status.send_replace(found.clone());
        told = Some(found);
    }
}

fn tell(place: &KubeletCgroup, found: &KubeletStatus) {
    match (&found.cgroup, &found.problem) {
        (Some(cgroup), _) => {
            tracing::info!(cgroup = %cgroup.display(), "the kubelet's probes reach pods whatever policy says")
        }
        // Where nobody said that there is a kubelet there may be none.
        (None, Some(problem)) if *place == KubeletCgroup::Usual => tracing::info!(problem, "no kubelet found"),
        (None, Some(problem)) => tracing::warn!(problem, "no kubelet found"),
        (None, None) => {}
    }
}
