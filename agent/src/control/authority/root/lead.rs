//! Takes part in the election for as long as the process runs.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::election::{Act, Election, Observed};
use crate::drivers::cluster::objects::leases::{self, StoredLease};
use crate::drivers::cluster::{ApiError, Cluster};

/// Where the Lease is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A name that no other process has or had.
    pub me: String,
    /// For how long it is held at a time. Seconds; a replica that dies is missed for about this long.
    pub duration: Duration,
}

/// Keeps `leads` true while this replica leads, until `stop` completes. Then gives the Lease back.
pub async fn run(cluster: &Cluster, config: &Config, leads: &watch::Sender<bool>, stop: impl Future<Output = ()>) {
    let mut election = Election::new(config.me.clone(), config.duration);
    let mut stop = std::pin::pin!(stop);
    let mut held = None;
    loop {
        let limit = config.duration / 3;
        let round = async { tokio::time::timeout(limit, round(cluster, config, &mut election)).await };
        let result = tokio::select! {
            () = &mut stop => break,
            result = round => result,
        };
        match result {
            Ok(Ok(lease)) => held = lease,
            Ok(Err(error)) if error.code() == Some(409) => tracing::debug!(%error, "another replica was faster"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot take part in the election of a leader"),
            Err(_) => tracing::warn!(?limit, "cannot take part in the election of a leader: the API server is slow"),
        }
        set(leads, election.leads(Instant::now()), config);
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(config.duration / 4) => {}
        }
        set(leads, election.leads(Instant::now()), config);
    }
    let led = leads.send_replace(false);
    if let Some(lease) = held.filter(|_| led) {
        let giving = leases::hold(cluster, (&config.namespace, &config.name), ("", 1), Some(&lease));
        if let Ok(Err(error)) = tokio::time::timeout(config.duration / 3, giving).await {
            tracing::warn!(%error, "cannot give the leadership back");
        }
    }
}

/// Returns the Lease if it is ours.
async fn round(cluster: &Cluster, config: &Config, election: &mut Election) -> Result<Option<StoredLease>, ApiError> {
    let lease = leases::read(cluster, &config.namespace, &config.name).await?;
    let observed = lease.as_ref().map(|lease| Observed {
        holder: &lease.holder,
        version: &lease.version,
        duration: Duration::from_secs(lease.seconds.into()),
    });
    let sent = Instant::now();
    match election.observe(observed, sent) {
        Act::Wait => Ok(None),
        Act::Hold => {
            let seconds = u32::try_from(config.duration.as_secs()).unwrap_or(u32::MAX).max(1);
            let place = (config.namespace.as_str(), config.name.as_str());
            let written = leases::hold(cluster, place, (election.me(), seconds), lease.as_ref()).await?;
            election.held(sent);
            Ok(Some(written))
        }
    }
}

fn set(leads: &watch::Sender<bool>, now: bool, config: &Config) {
    leads.send_if_modified(|before| {
        if *before != now {
            tracing::info!(replica = config.me, leads = now, "leadership changed");
        }
        std::mem::replace(before, now) != now
    });
}
