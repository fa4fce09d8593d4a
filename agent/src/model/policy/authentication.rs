//! PeerAuthentication: whether connections in clear text are taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::selector::Selector;
use crate::model::workload::ObjectName;

/// A PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Namespace and name.
    pub name: ObjectName,
    /// The workloads that it is for; without labels, all of its namespace, or of the mesh if that is the root namespace.
    pub selector: Selector,
    /// The mode of all ports that `ports` does not name.
    pub mode: Mode,
    /// The modes of single ports of the workload. They count only together with a selector.
    pub ports: BTreeMap<u16, Mode>,
    /// When the object was made, in RFC 3339 and UTC; of two for the same workloads the older one counts.
    pub created: Option<Arc<str>>,
}

/// Istio's modes of mutual TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// As the next wider policy says: workload, namespace, mesh. PERMISSIVE if none says anything.
    #[default]
    Unset,
    /// Counts as PERMISSIVE: where the mesh carries both sides, its tunnels are always mutual TLS.
    Disable,
    /// Clear text is taken, too.
    Permissive,
    /// Only clients with an identity are let in.
    Strict,
}

/// What the policies for one workload come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    default: Decided,
    ports: BTreeMap<u16, Decided>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Decided {
    strict: bool,
    by: Option<ObjectName>,
}

impl PeerAuthentication {
    /// What stands for an object that is wrong: STRICT.
    #[must_use]
    pub fn closed(name: ObjectName, selector: Selector) -> Self {
        Self { name, selector, mode: Mode::Strict, ports: BTreeMap::new(), created: None }
    }

    /// Of several policies for the same workloads, the one that counts: the oldest, those without a date last, then by name.
    #[must_use]
    pub fn effective<'a>(policies: impl IntoIterator<Item = &'a Arc<Self>>) -> Option<&'a Arc<Self>> {
        policies.into_iter().min_by_key(|policy| policy.seniority())
    }

    /// What to sort by: of two policies for the same workloads, the lesser one counts.
    #[must_use]
    pub fn seniority(&self) -> (bool, Option<&str>, &ObjectName) {
        (self.created.is_none(), self.created.as_deref(), &self.name)
    }
}

impl Strictness {
    /// What the effective policies of the mesh, the namespace and the workload, as far as there are any, come to.
    #[must_use]
    pub fn resolve(
        mesh: Option<&PeerAuthentication>,
        namespace: Option<&PeerAuthentication>,
        workload: Option<&PeerAuthentication>,
    ) -> Self {
        let levels = [workload, namespace, mesh].into_iter().flatten();
        let default = levels.filter_map(|policy| policy.decided(policy.mode)).next().unwrap_or_default();
        let ports = workload.map(|policy| (policy, policy.ports.iter()));
        let ports = ports.into_iter().flat_map(|(policy, ports)| ports.map(move |(port, mode)| (policy, *port, *mode)));
        let ports = ports.filter_map(|(policy, port, mode)| Some((port, policy.decided(mode)?)));
        Self { default, ports: ports.collect() }
    }

    /// Whether a port takes only clients with an identity, and which policy says so (or that it does not).
    #[must_use]
    pub fn of_port(&self, port: u16) -> (bool, Option<&ObjectName>) {
        let decided = self.ports.get(&port).unwrap_or(&self.default);
        (decided.strict, decided.by.as_ref())
    }
}

impl PeerAuthentication {
    fn decided(&self, mode: Mode) -> Option<Decided> {
        let strict = match mode {
            Mode::Unset => return None,
            Mode::Disable | Mode::Permissive => false,
            Mode::Strict => true,
        };
        Some(Decided { strict, by: Some(self.name.clone()) })
    }
}
