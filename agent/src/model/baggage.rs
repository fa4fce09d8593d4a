//! Istio's `baggage` header: what one end of a tunnel tells the other about its workload, for telemetry only.

use std::fmt;
use std::sync::Arc;

use super::workload::{Owner, OwnerKind, Workload};

/// Headers longer than this are ignored, in bytes.
const MAX_HEADER: usize = 8 * 1024;

/// Longer values are ignored, in bytes. Kubernetes names have at most 253.
const MAX_VALUE: usize = 256;

/// A workload as its side of the tunnel describes it. Nothing here is authenticated but by the good faith of the peer's
/// node: it names things in metrics and logs and never decides about access. An empty text means that the key is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`
    pub cluster: Arc<str>,
    /// `k8s.namespace.name`
    pub namespace: Arc<str>,
    /// `k8s.deployment.name`, `k8s.cronjob.name`, `k8s.pod.name` or `k8s.job.name`
    pub owner: Option<Owner>,
    /// `service.name`: Istio's canonical name.
    pub service_name: Arc<str>,
    /// `service.version`: Istio's canonical revision.
    pub service_version: Arc<str>,
    /// `cloud.region`
    pub region: Arc<str>,
    /// `cloud.availability_zone`
    pub zone: Arc<str>,
}

/// A description as it travels: what is written and not read yet. Every connection carries one, and few are ever asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaggageText(Arc<str>);

impl BaggageText {
    /// What a peer wrote. Longer than [`Baggage::parse`] reads, it counts as nothing.
    #[must_use]
    pub fn received(text: &str) -> Self {
        Self(if text.len() <= MAX_HEADER { text.into() } else { Arc::default() })
    }

    /// Reads it.
    #[must_use]
    pub fn read(&self) -> Baggage {
        Baggage::parse(&self.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Baggage> for BaggageText {
    fn from(baggage: &Baggage) -> Self {
        Self(baggage.to_string().into())
    }
}

impl Baggage {
    /// Describes a workload of the cluster called `cluster`.
    #[must_use]
    pub fn of(workload: &Workload, cluster: &Arc<str>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            namespace: Arc::clone(&workload.pod.namespace),
            owner: Some(workload.owner.clone()),
            service_name: Arc::clone(&workload.canonical_name),
            service_version: Arc::clone(&workload.canonical_revision),
            region: Arc::clone(&workload.locality.region),
            zone: Arc::clone(&workload.locality.zone),
        }
    }

    /// Reads a header's value. Never fails: unknown keys, empty and impossible values are left out, and a header that
    /// is too long is left out altogether. Of repeated keys the last one counts. No percent-decoding, as in ztunnel.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        let mut baggage = Self::default();
        if header.len() > MAX_HEADER {
            return baggage;
        }
        for member in header.split(',') {
            // What follows a `;` are properties of the member (W3C Baggage, section 3.2).
            let pair = member.split(';').next().unwrap_or_default();
            if let Some((key, value)) = pair.split_once('=') {
                baggage.set(key.trim(), value.trim());
            }
        }
        baggage
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, key: &str, value: &str) {
        if !is_value(value) {
            return;
        }
        match key {
            "k8s.cluster.name" => self.cluster = value.into(),
            "k8s.namespace.name" => self.namespace = value.into(),
            "service.name" => self.service_name = value.into(),
            "service.version" => self.service_version = value.into(),
            "cloud.region" => self.region = value.into(),
            "cloud.availability_zone" => self.zone = value.into(),
            _ => {
                if let Some((kind, _)) = OWNER_KEYS.iter().find(|(_, name)| *name == key) {
                    self.owner = Some(Owner { kind: *kind, name: value.into() });
                }
            }
        }
    }
}

/// Prints the header's value; what is unknown or cannot be written is left out.
impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_ref().map_or(("", ""), |owner| (owner_key(owner.kind), &*owner.name));
        let members = [
            ("k8s.cluster.name", &*self.cluster),
            ("k8s.namespace.name", &*self.namespace),
            owner,
            ("service.name", &*self.service_name),
            ("service.version", &*self.service_version),
            ("cloud.region", &*self.region),
            ("cloud.availability_zone", &*self.zone),
        ];
        let mut separator = "";
        for (key, value) in members {
            if is_value(value) {
                write!(f, "{separator}{key}={value}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

const OWNER_KEYS: [(OwnerKind, &str); 4] = [
    (OwnerKind::CronJob, "k8s.cronjob.name"),
    (OwnerKind::Deployment, "k8s.deployment.name"),
    (OwnerKind::Job, "k8s.job.name"),
    (OwnerKind::Pod, "k8s.pod.name"),
];

fn owner_key(kind: OwnerKind) -> &'static str {
    match kind {
        OwnerKind::CronJob => "k8s.cronjob.name",
        OwnerKind::Deployment => "k8s.deployment.name",
        OwnerKind::Job => "k8s.job.name",
        OwnerKind::Pod => "k8s.pod.name",
    }
}

/// Visible ASCII without the separators.
fn is_value(value: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b';');
    (1..=MAX_VALUE).contains(&value.len()) && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::enrolment::Enrolment;
    use crate::model::identity::{Identity, TrustDomain};
    use crate::model::workload::{Locality, ObjectName};

    const FULL: &str = "k8s.cluster.name=c1,k8s.namespace.name=demo,k8s.deployment.name=web,service.name=web,\
                        service.version=v2,cloud.region=r,cloud.availability_zone=z";

    fn check(header: &str, expected: &str) {
        assert_eq!(Baggage::parse(header).to_string(), expected, "{header:?}");
    }

    #[test]
    fn what_ztunnel_writes_is_read_and_written_alike() {
        check(FULL, FULL);
        for (kind, key) in OWNER_KEYS {
            assert_eq!(owner_key(kind), key);
            check(&format!("{key}=x"), &format!("{key}=x"));
        }
        assert!(!Baggage::parse(FULL).is_empty());
    }

    #[test]
    fn missing_unknown_and_empty_members_are_left_out() {
        check("", "");
        check("k8s.cluster.name=,service.name=a", "service.name=a");
        check("service.name=a,service.name=b", "service.name=b");
        check("service.name=a,service.name=", "service.name=a");
        check("x=1, service.name = a ;p=1;q , =,==,,k8s.replicaset.name=r", "service.name=a");
        check("service.version=a=b", "service.version=a=b");
    }

    #[test]
    fn hostile_input_is_bounded() {
        check(&format!("service.name={}", "a".repeat(257)), "");
        check(&format!("service.name=a,{}", "x".repeat(9000)), "");
        check("service.name=a\u{0}b,service.version=\"é\",cloud.region=a b", "");
        check(&"=,;".repeat(2000), "");
    }

    #[test]
    fn a_workload_describes_itself() {
        let workload = Workload {
            pod: ObjectName::new("demo", "web-1"),
            uid: "u".into(),
            ips: Vec::new(),
            node: "n".into(),
            identity: Identity::new(TrustDomain::default(), "demo", "web").unwrap(),
            owner: Owner { kind: OwnerKind::Deployment, name: "web".into() },
            canonical_name: "web".into(),
            canonical_revision: "v2".into(),
            app: "".into(),
            version: "".into(),
            locality: Locality { region: "r".into(), zone: "z".into() },
            labels: crate::model::policy::selector::Labels::new(),
            host_network: false,
            enrolment: Enrolment::Enrolled,
            netns: None,
        };
        assert_eq!(Baggage::of(&workload, &"c1".into()).to_string(), FULL);
    }
}
