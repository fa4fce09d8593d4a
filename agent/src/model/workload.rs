//! A workload: one pod, with what the data path and its telemetry need of it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::enrolment::Enrolment;
use super::identity::Identity;
use super::policy::selector::Labels;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The object's name in it.
    pub name: Arc<str>,
}

/// One pod of the mesh or beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The pod's namespace and name.
    pub pod: ObjectName,
    /// The pod's UID; in a directory of manifests that gives none, `<namespace>/<name>`.
    pub uid: Arc<str>,
    /// All addresses of the pod, the primary one first, in canonical form.
    pub ips: Vec<IpAddr>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// What its certificate says.
    pub identity: Identity,
    /// The controller that made the pod (`Deployment` …), for telemetry.
    pub owner: Owner,
    /// Istio's canonical service name: `service.istio.io/canonical-name`, `app.kubernetes.io/name`, `app` or the owner's name.
    pub canonical_name: Arc<str>,
    /// Istio's canonical revision: `service.istio.io/canonical-revision`, `app.kubernetes.io/version`, `version` or `latest`.
    pub canonical_revision: Arc<str>,
    /// The labels `app` and `version`, empty if not set.
    pub app: Arc<str>,
    /// See `app`.
    pub version: Arc<str>,
    /// From the node's `topology.kubernetes.io` labels.
    pub locality: Locality,
    /// The pod's labels, for the selectors of policies.
    pub labels: Labels,
    /// Whether the pod shares its node's network namespace.
    pub host_network: bool,
    /// Whether the pod belongs to the mesh, or why not.
    pub enrolment: Enrolment,
    /// The path of its network namespace where the manifests give it (`sotto.dev/netns`).
    pub netns: Option<PathBuf>,
}

/// The controller behind a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Which kind of controller.
    pub kind: OwnerKind,
    /// Its name; the pod's own name if there is none.
    pub name: Arc<str>,
}

/// Kinds of controllers as HBONE's baggage names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// `k8s.cronjob.name`
    CronJob,
    /// `k8s.deployment.name`
    Deployment,
    /// `k8s.job.name`
    Job,
    /// `k8s.pod.name`, also for pods of other controllers (stateful sets, daemon sets …), as Istio does.
    Pod,
}

/// Where a workload runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// `topology.kubernetes.io/region`
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`
    pub zone: Arc<str>,
}

impl Workload {
    /// Whether peers reach this workload through the mesh's tunnel.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.enrolment.is_enrolled()
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ObjectName {
    /// Puts a name together.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}
