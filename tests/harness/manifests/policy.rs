//! Istio's security policies in the manifests: `AuthorizationPolicy` and `PeerAuthentication`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::directory::file_name;
use crate::mesh::{Mesh, Shared};
use crate::pod::DEFAULT_NAMESPACE;

/// A policy that is about to be.
#[derive(Debug)]
#[must_use = "nothing happens before create()"]
pub struct PolicyBuilder {
    shared: Arc<Shared>,
    object: Value,
}

/// A policy in the manifests. The agents have not read it yet when it is made: wait for what it does.
#[derive(Debug)]
pub struct Policy {
    shared: Arc<Shared>,
    object: Value,
}

impl Mesh {
    /// Begins an AuthorizationPolicy.
    pub fn authorization_policy(&self, name: &str) -> PolicyBuilder {
        PolicyBuilder::new(&self.shared, "AuthorizationPolicy", name)
    }

    /// Begins a PeerAuthentication.
    pub fn peer_authentication(&self, name: &str) -> PolicyBuilder {
        PolicyBuilder::new(&self.shared, "PeerAuthentication", name)
    }
}

impl PolicyBuilder {
    fn new(shared: &Arc<Shared>, kind: &str, name: &str) -> Self {
        let object = json!({
            "apiVersion": "security.istio.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": DEFAULT_NAMESPACE}, "spec": {},
        });
        Self { shared: Arc::clone(shared), object }
    }

    /// Its Kubernetes namespace; `demo` if not said. One in `istio-system` is for the whole mesh.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.object["metadata"]["namespace"] = namespace.into();
        self
    }

    /// Selects only pods with this label.
    pub fn selecting(mut self, key: &str, value: &str) -> Self {
        self.object["spec"]["selector"]["matchLabels"][key] = value.into();
        self
    }

    /// `action`: `ALLOW` if not said.
    pub fn action(mut self, action: &str) -> Self {
        self.object["spec"]["action"] = action.into();
        self
    }

    /// `rules`
    pub fn rules(mut self, rules: Value) -> Self {
        self.object["spec"]["rules"] = rules;
        self
    }

    /// `mtls.mode`
    pub fn mode(mut self, mode: &str) -> Self {
        self.object["spec"]["mtls"] = json!({ "mode": mode });
        self
    }

    /// `portLevelMtls`
    pub fn port_mode(mut self, port: u16, mode: &str) -> Self {
        self.object["spec"]["portLevelMtls"][port.to_string()] = json!({ "mode": mode });
        self
    }

    /// Writes it.
    #[must_use]
    pub fn create(self) -> Policy {
        let Self { shared, object } = self;
        shared.manifests.apply(&object);
        Policy { shared, object }
    }
}

impl Policy {
    /// Its namespace and name, as logs and metrics spell them.
    #[must_use]
    pub fn name(&self) -> String {
        let text = |key: &str| self.object["metadata"][key].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("namespace"), text("name"))
    }

    /// The name of its file.
    #[must_use]
    pub fn manifest_file(&self) -> String {
        file_name(&self.object)
    }

    /// Writes it anew with another `action` and other `rules`.
    pub fn change(&mut self, action: &str, rules: Value) {
        self.object["spec"]["action"] = action.into();
        self.object["spec"]["rules"] = rules;
        self.shared.manifests.apply(&self.object);
    }

    /// Takes it away.
    pub fn delete(self) {
        self.shared.manifests.delete(&self.object);
    }
}
