//! What a pod's network namespace needs while the agent carries its connections.

use std::io;

use crate::model::workload::ObjectName;
use crate::sys::netns::Netns;
use crate::sys::pod::{loopback, reply_path};

/// Sets it up. Doing it again changes nothing.
///
/// # Errors
/// As [`reply_path::install`]. What only saves work may be missing.
pub(super) async fn set_up(netns: &Netns, pod: &ObjectName) -> io::Result<()> {
    reply_path::install(netns).await?;
    if let Err(error) = loopback::enlarge(netns).await {
        tracing::debug!(%pod, %error, "bytes cross this pod's loopback in smaller pieces");
    }
    Ok(())
}

/// Leaves it as it was. Connections that still rely on it break.
pub(super) async fn clean(netns: &Netns) {
    for result in [loopback::restore(netns).await, reply_path::remove(netns).await] {
        if let Err(error) = result {
            tracing::warn!(cookie = netns.cookie().0, %error, "cannot clean a pod's network namespace");
        }
    }
}
