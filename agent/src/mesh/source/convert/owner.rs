//! Which controller a pod counts for, told as Istio's telemetry tells it.

use std::sync::Arc;

use crate::mesh::source::objects::pod::Pod;
use crate::mesh::source::shared::Shared;
use crate::model::workload::{ObjectName, Owner, OwnerKind};

/// The controller behind the pod that is called `own`.
///
/// A ReplicaSet whose name ends with the pod's template hash stands for its Deployment, a Job whose name ends with a
/// schedule's time stamp for its CronJob. Every other pod (also of a StatefulSet or DaemonSet) counts for itself.
pub(super) fn owner(pod: &Pod, own: &ObjectName, shared: &mut Shared) -> Owner {
    match controller(pod) {
        Some((kind, name)) => Owner { kind, name: shared.text(name) },
        None => Owner { kind: OwnerKind::Pod, name: Arc::clone(&own.name) },
    }
}

fn controller(pod: &Pod) -> Option<(OwnerKind, &str)> {
    let metadata = &pod.metadata;
    let controller = metadata.owner_references.iter().find(|owner| owner.controller)?;
    let name = controller.name.as_str();
    match controller.kind.as_str() {
        "Deployment" => Some((OwnerKind::Deployment, name)),
        "CronJob" => Some((OwnerKind::CronJob, name)),
        "ReplicaSet" => {
            let hash = metadata.label("pod-template-hash")?;
            let deployment = name.strip_suffix(hash)?.strip_suffix('-')?;
            Some((OwnerKind::Deployment, deployment))
        }
        "Job" => Some(match scheduled(name) {
            Some(cron_job) => (OwnerKind::CronJob, cron_job),
            None => (OwnerKind::Job, name),
        }),
        _ => None,
    }
    .filter(|(_, name)| !name.is_empty())
}

/// The CronJob in a Job's name: `backup-28012345` is `backup` at a minute since the epoch (seconds in old versions).
fn scheduled(job: &str) -> Option<&str> {
    let (cron_job, time) = job.rsplit_once('-')?;
    let is_time = (8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit());
    (is_time && !cron_job.is_empty()).then_some(cron_job)
}
