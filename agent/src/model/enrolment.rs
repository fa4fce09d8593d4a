//! Which pods belong to the mesh: the rules, as a pure function of labels and kinds.

use std::fmt;

/// The label on a namespace or a pod that decides about enrolment, as in Istio.
pub const DATAPLANE_MODE_LABEL: &str = "istio.io/dataplane-mode";

/// Namespaces whose pods never join: what runs there must work for the mesh to start.
pub const NEVER_ENROLLED_NAMESPACES: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];

/// Whether a pod belongs to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// It does: its traffic is captured and peers reach it through the tunnel.
    Enrolled,
    /// It does not, for this reason.
    Outside(OutsideReason),
}

/// Why a pod is outside the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutsideReason {
    /// Neither the namespace nor the pod asks for it.
    NotLabelled,
    /// The pod's own label says `none`.
    OptedOut,
    /// The pod shares the node's network namespace.
    HostNetwork,
    /// The namespace is one of [`NEVER_ENROLLED_NAMESPACES`].
    SystemNamespace,
    /// The pod already carries a sidecar (`sidecar.istio.io/status`).
    Sidecar,
    /// The pod has finished (`Succeeded`, `Failed`).
    Finished,
}

/// What the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// Value of [`DATAPLANE_MODE_LABEL`] on the namespace.
    pub namespace_mode: Option<&'a str>,
    /// Value of [`DATAPLANE_MODE_LABEL`] on the pod.
    pub pod_mode: Option<&'a str>,
    /// `spec.hostNetwork`
    pub host_network: bool,
    /// Whether the annotation `sidecar.istio.io/status` is there.
    pub has_sidecar: bool,
    /// Whether the pod's phase is `Succeeded` or `Failed`.
    pub finished: bool,
}

/// Decides whether a pod belongs to the mesh. The pod's label wins over its namespace's; any value but `ambient` and
/// `none` counts as no label.
#[must_use]
pub fn decide(candidate: &Candidate<'_>) -> Enrolment {
    use Enrolment::{Enrolled, Outside};
    if candidate.host_network {
        return Outside(OutsideReason::HostNetwork);
    }
    if NEVER_ENROLLED_NAMESPACES.contains(&candidate.namespace) {
        return Outside(OutsideReason::SystemNamespace);
    }
    if candidate.has_sidecar {
        return Outside(OutsideReason::Sidecar);
    }
    if candidate.finished {
        return Outside(OutsideReason::Finished);
    }
    match (candidate.pod_mode, candidate.namespace_mode) {
        (Some("none"), _) => Outside(OutsideReason::OptedOut),
        (Some("ambient"), _) | (_, Some("ambient")) => Enrolled,
        _ => Outside(OutsideReason::NotLabelled),
    }
}

impl Enrolment {
    /// Whether it is [`Enrolment::Enrolled`].
    #[must_use]
    pub fn is_enrolled(self) -> bool {
        self == Self::Enrolled
    }
}

impl fmt::Display for OutsideReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLabelled => "neither the namespace nor the pod has istio.io/dataplane-mode=ambient",
            Self::OptedOut => "the pod has istio.io/dataplane-mode=none",
            Self::HostNetwork => "the pod shares its node's network (hostNetwork)",
            Self::SystemNamespace => "pods of system namespaces never join",
            Self::Sidecar => "the pod has a sidecar (sidecar.istio.io/status)",
            Self::Finished => "the pod has finished",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Candidate<'static> =
        Candidate { namespace: "demo", namespace_mode: None, pod_mode: None, host_network: false, has_sidecar: false, finished: false };

    fn check(candidate: Candidate<'_>, expected: Result<(), OutsideReason>) {
        let expected = expected.map_or_else(Enrolment::Outside, |()| Enrolment::Enrolled);
        assert_eq!(decide(&candidate), expected, "{candidate:?}");
    }

    #[test]
    fn the_pods_label_wins_over_the_namespaces() {
        let ambient = Candidate { namespace_mode: Some("ambient"), ..PLAIN };
        check(PLAIN, Err(OutsideReason::NotLabelled));
        check(ambient, Ok(()));
        check(Candidate { pod_mode: Some("ambient"), ..PLAIN }, Ok(()));
        check(Candidate { pod_mode: Some("none"), ..ambient }, Err(OutsideReason::OptedOut));
        check(Candidate { pod_mode: Some("ambient"), namespace_mode: Some("none"), ..PLAIN }, Ok(()));
        check(Candidate { pod_mode: Some("bogus"), ..ambient }, Ok(()));
        check(Candidate { namespace_mode: Some("Ambient"), ..PLAIN }, Err(OutsideReason::NotLabelled));
    }

    #[test]
    fn some_pods_never_join() {
        let asked = Candidate { namespace_mode: Some("ambient"), pod_mode: Some("ambient"), ..PLAIN };
        check(Candidate { host_network: true, ..asked }, Err(OutsideReason::HostNetwork));
        check(Candidate { has_sidecar: true, ..asked }, Err(OutsideReason::Sidecar));
        check(Candidate { finished: true, ..asked }, Err(OutsideReason::Finished));
        for namespace in NEVER_ENROLLED_NAMESPACES {
            check(Candidate { namespace, ..asked }, Err(OutsideReason::SystemNamespace));
        }
    }
}
