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
    default: Setting,
    ports: BTreeMap<u16, Setting>,
}

/// The mode of a port, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// The mode; [`Mode::Unset`] where nobody says anything, which is PERMISSIVE.
    pub mode: Mode,
    /// What was said about.
    pub level: Level,
    /// Who said it.
    pub by: Option<ObjectName>,
}

/// How much a [`Setting`] is about. Of two, the later one here counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nobody has said anything.
    #[default]
    Default,
    /// The whole mesh.
    Mesh,
    /// A namespace.
    Namespace,
    /// Workloads with certain labels.
    Workload,
    /// One port of these.
    Port,
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
        let levels = [(workload, Level::Workload), (namespace, Level::Namespace), (mesh, Level::Mesh)];
        let set = |(policy, level): (Option<&PeerAuthentication>, _)| policy?.setting(policy?.mode, level);
        let default = levels.into_iter().find_map(set).unwrap_or_default();
        let ports = workload.map(|policy| (policy, policy.ports.iter()));
        let ports = ports.into_iter().flat_map(|(policy, ports)| ports.map(move |(port, mode)| (policy, *port, *mode)));
        let ports = ports.filter_map(|(policy, port, mode)| Some((port, policy.setting(mode, Level::Port)?)));
        Self { default, ports: ports.collect() }
    }

    /// What holds for a port.
    #[must_use]
    pub fn of_port(&self, port: u16) -> &Setting {
        self.ports.get(&port).unwrap_or(&self.default)
    }
}

impl Setting {
    /// Whether only clients with an identity are let in.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.mode == Mode::Strict
    }
}

impl PeerAuthentication {
    fn setting(&self, mode: Mode, level: Level) -> Option<Setting> {
        (mode != Mode::Unset).then(|| Setting { mode, level, by: Some(self.name.clone()) })
    }
}

impl Mode {
    /// As objects write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unset => "UNSET",
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}

impl Level {
    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Mesh => "mesh",
            Self::Namespace => "namespace",
            Self::Workload => "workload",
            Self::Port => "port",
        }
    }
}
