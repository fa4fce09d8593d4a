//! A Lease (coordination.k8s.io/v1), read and taken. Who may take it when is decided elsewhere.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::place::Place;
use crate::drivers::cluster::{ApiError, Cluster};

/// A Lease as it was read.
#[derive(Clone, Debug)]
pub struct StoredLease {
    /// Who holds it; empty when it was given back.
    pub holder: String,
    /// Changes with every write.
    pub version: String,
    /// For how many seconds it is held without being renewed, as its holder says.
    pub seconds: u32,
    lease: Lease,
}

/// Reads a Lease, if it is there.
///
/// # Errors
/// [`ApiError`] when there is no answer.
pub async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<StoredLease>, ApiError> {
    Ok(place(namespace, name).read(cluster).await?.map(stored))
}

/// Writes `holder` (nobody, where it is empty) into the Lease: a new Lease where `replaces` is `None`, else exactly that version.
///
/// # Errors
/// [`ApiError`]; with the code 409 when somebody else was faster.
pub async fn hold(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    (holder, seconds): (&str, u32),
    replaces: Option<&StoredLease>,
) -> Result<StoredLease, ApiError> {
    let now = MicroTime(Timestamp::now());
    let mut lease = replaces.map_or_else(Lease::default, |stored| stored.lease.clone());
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(holder) {
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |changes| changes.saturating_add(1)));
        spec.acquire_time = Some(now.clone());
    }
    spec.holder_identity = Some(holder.to_owned());
    spec.lease_duration_seconds = i32::try_from(seconds).ok();
    spec.renew_time = Some(now);
    let place = place(namespace, name);
    if replaces.is_some() {
        return Ok(stored(place.replace(cluster, &lease).await?));
    }
    lease.metadata =
        ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
    Ok(stored(place.create(cluster, &lease).await?))
}

fn stored(lease: Lease) -> StoredLease {
    let spec = lease.spec.clone().unwrap_or_default();
    StoredLease {
        holder: spec.holder_identity.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        seconds: spec.lease_duration_seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0),
        lease,
    }
}

fn place<'a>(namespace: &'a str, name: &'a str) -> Place<'a> {
    Place { api: "/apis/coordination.k8s.io/v1", plural: "leases", namespace, name }
}
