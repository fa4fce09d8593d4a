//! Which kinds are read, and an object of any of them.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use thiserror::Error;

use crate::mesh::source::field::{one_line, shorten};

use super::authorization_policy::AuthorizationPolicy;
use super::endpoint_slice::EndpointSlice;
use super::meta::ObjectMeta;
use super::namespace::Namespace;
use super::node::Node;
use super::peer_authentication::PeerAuthentication;
use super::pod::Pod;
use super::service::Service;
use super::service_account::ServiceAccount;

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Namespace
    Namespace,
    /// `v1` Node
    Node,
    /// `v1` ServiceAccount
    ServiceAccount,
    /// `v1` Pod
    Pod,
    /// `v1` Service
    Service,
    /// `discovery.k8s.io/v1` and `v1beta1` EndpointSlice
    EndpointSlice,
    /// `security.istio.io/v1` and `v1beta1` PeerAuthentication
    PeerAuthentication,
    /// `security.istio.io/v1` and `v1beta1` AuthorizationPolicy
    AuthorizationPolicy,
}

/// An object of one of the kinds that are read. Each is as large as its kind needs: most of thousands are small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Namespace.
    Namespace(Box<Namespace>),
    /// A Node.
    Node(Box<Node>),
    /// A ServiceAccount.
    ServiceAccount(Box<ServiceAccount>),
    /// A Pod.
    Pod(Box<Pod>),
    /// A Service.
    Service(Box<Service>),
    /// An EndpointSlice.
    EndpointSlice(Box<EndpointSlice>),
    /// A PeerAuthentication.
    PeerAuthentication(Box<PeerAuthentication>),
    /// An AuthorizationPolicy.
    AuthorizationPolicy(Box<AuthorizationPolicy>),
}

/// Names one object: `Pod demo/web-0`, `Namespace demo`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind, as the manifest says it.
    pub kind: String,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A kind that is read, in a version of its API that is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{apiversion:?} is not an apiVersion of {kind} that is read; write {}", .kind.api_versions().join(" or "))]
pub struct UnknownVersion {
    /// The kind.
    pub kind: Kind,
    /// What the manifest says.
    pub apiversion: String,
}

impl Kind {
    /// All kinds that are read.
    pub const ALL: [Self; 8] = [
        Self::Namespace,
        Self::Node,
        Self::ServiceAccount,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::PeerAuthentication,
        Self::AuthorizationPolicy,
    ];

    /// The kind of that name in that version; none if it is a kind that does not concern the mesh.
    ///
    /// # Errors
    /// [`UnknownVersion`] if only the version is not known: a typo there must not make an object vanish in silence.
    pub fn resolve(apiversion: &str, kind: &str) -> Result<Option<Self>, UnknownVersion> {
        let Some(kind) = Self::ALL.into_iter().find(|known| known.name() == kind) else {
            return Ok(None);
        };
        if kind.api_versions().contains(&apiversion) {
            return Ok(Some(kind));
        }
        Err(UnknownVersion { kind, apiversion: shorten(apiversion) })
    }

    /// The kind's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ServiceAccount => "ServiceAccount",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
        }
    }

    /// The values of `apiVersion` that are read.
    #[must_use]
    pub fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::EndpointSlice => &["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"],
            Self::PeerAuthentication | Self::AuthorizationPolicy => {
                &["security.istio.io/v1", "security.istio.io/v1beta1"]
            }
            Self::Namespace | Self::Node | Self::ServiceAccount | Self::Pod | Self::Service => &["v1"],
        }
    }

    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

/// Reads an object of this kind.
impl<'de> DeserializeSeed<'de> for Kind {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        Ok(match self {
            Self::Namespace => Object::Namespace(Box::new(Namespace::deserialize(deserializer)?)),
            Self::Node => Object::Node(Box::new(Node::deserialize(deserializer)?)),
            Self::ServiceAccount => Object::ServiceAccount(Box::new(ServiceAccount::deserialize(deserializer)?)),
            Self::Pod => Object::Pod(Box::new(Pod::deserialize(deserializer)?)),
            Self::Service => Object::Service(Box::new(Service::deserialize(deserializer)?)),
            Self::EndpointSlice => Object::EndpointSlice(Box::new(EndpointSlice::deserialize(deserializer)?)),
            Self::PeerAuthentication => {
                Object::PeerAuthentication(Box::new(PeerAuthentication::deserialize(deserializer)?))
            }
            Self::AuthorizationPolicy => {
                Object::AuthorizationPolicy(Box::new(AuthorizationPolicy::deserialize(deserializer)?))
            }
        })
    }
}

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
        }
    }

    /// Its metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::ServiceAccount(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::PeerAuthentication(object) => &object.metadata,
            Self::AuthorizationPolicy(object) => &object.metadata,
        }
    }

    /// Its metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Namespace(object) => &mut object.metadata,
            Self::Node(object) => &mut object.metadata,
            Self::ServiceAccount(object) => &mut object.metadata,
            Self::Pod(object) => &mut object.metadata,
            Self::Service(object) => &mut object.metadata,
            Self::EndpointSlice(object) => &mut object.metadata,
            Self::PeerAuthentication(object) => &mut object.metadata,
            Self::AuthorizationPolicy(object) => &mut object.metadata,
        }
    }

    /// Whether it keeps connections out, so that to leave it out where it is wrong would open a door.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        matches!(self, Self::PeerAuthentication(_) | Self::AuthorizationPolicy(_))
    }

    /// Its kind, namespace and name.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        let metadata = self.metadata();
        ObjectRef::new(self.kind(), metadata.namespace_or_default(), &metadata.name)
    }
}

impl ObjectRef {
    /// Names an object; the namespace is dropped for kinds that have none.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { namespace.to_owned() } else { String::new() };
        Self { kind: kind.name().to_owned(), namespace, name: name.to_owned() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.namespace.as_str(), self.name.as_str()) {
            (_, "") => format!("{} without a name", self.kind),
            ("", name) => format!("{} {name}", self.kind),
            (namespace, name) => format!("{} {namespace}/{name}", self.kind),
        };
        f.write_str(&one_line(&text))
    }
}
