//! `PeerAuthentication`: whether clear text is taken.

use serde::Deserialize;
use serde_json::Value;

use super::meta::{ObjectMeta, nullable};

/// A PeerAuthentication. Its spec stays as it is written, for the reason that an AuthorizationPolicy's does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PeerAuthentication {
    /// Namespace, name, date.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// `selector`, `mtls`, `portLevelMtls`
    pub spec: Value,
}
