//! All policies of the mesh.

use std::sync::Arc;

use super::authentication::{PeerAuthentication, Strictness};
use super::authorization::AuthorizationPolicy;
use super::index::{Index, Scoped};
use super::selector::{Labels, Selector};
use super::workload::WorkloadPolicies;

/// Istio's name of the namespace whose policies are for the whole mesh.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

/// All policies of the mesh, indexed by what they are for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policies {
    root: Arc<str>,
    authentication: Index<PeerAuthentication>,
    authorization: Index<AuthorizationPolicy>,
}

impl Policies {
    /// Indexes the policies. Those of `root` are for the whole mesh; their order does not matter.
    #[must_use]
    pub fn new(
        root: Arc<str>,
        authentication: Vec<PeerAuthentication>,
        authorization: Vec<AuthorizationPolicy>,
    ) -> Self {
        Self { root, authentication: Index::new(authentication), authorization: Index::new(authorization) }
    }

    /// The namespace whose policies are for the whole mesh.
    #[must_use]
    pub fn root_namespace(&self) -> &str {
        &self.root
    }

    /// The policies that apply to a workload of this namespace with these labels.
    #[must_use]
    pub fn of(&self, namespace: &str, labels: &Labels) -> WorkloadPolicies {
        WorkloadPolicies::new(self.strictness(namespace, labels), self.authorization(namespace, labels))
    }

    /// All PeerAuthentications, in no order.
    pub fn peer_authentications(&self) -> impl Iterator<Item = &Arc<PeerAuthentication>> {
        self.authentication.all()
    }

    /// All AuthorizationPolicies, in no order.
    pub fn authorization_policies(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.authorization.all()
    }

    fn authorization(&self, namespace: &str, labels: &Labels) -> Vec<Arc<AuthorizationPolicy>> {
        let own = (namespace != &*self.root).then_some(namespace);
        let scopes = own.into_iter().chain([&*self.root]);
        let found = scopes.flat_map(|scope| {
            self.authorization.unselective(scope).iter().chain(self.authorization.selecting(scope, labels))
        });
        found.cloned().collect()
    }

    /// A selector in the root namespace selects nothing, as in Istio.
    fn strictness(&self, namespace: &str, labels: &Labels) -> Strictness {
        let mesh = PeerAuthentication::effective(self.authentication.unselective(&self.root));
        if namespace == &*self.root {
            return Strictness::resolve(mesh.map(|policy| &**policy), None, None);
        }
        let own = PeerAuthentication::effective(self.authentication.unselective(namespace));
        let workload = PeerAuthentication::effective(self.authentication.selecting(namespace, labels));
        let [mesh, own, workload] = [mesh, own, workload].map(|policy| policy.map(|policy| &**policy));
        Strictness::resolve(mesh, own, workload)
    }
}

impl Scoped for PeerAuthentication {
    fn namespace(&self) -> &Arc<str> {
        &self.name.namespace
    }

    fn selector(&self) -> &Selector {
        &self.selector
    }
}

impl Scoped for AuthorizationPolicy {
    fn namespace(&self) -> &Arc<str> {
        &self.name.namespace
    }

    fn selector(&self) -> &Selector {
        &self.selector
    }
}
