//! Whether the agent's own DaemonSet is there to stay.

use serde::Deserialize;

use super::super::{ApiError, Cluster};
use super::place::{escaped, parse};

/// A DaemonSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSetRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl DaemonSetRef {
    /// Reads `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?}: give NAMESPACE/NAME")),
        }
    }
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<String>,
}

/// Whether a DaemonSet is being removed, or is no more. So it is too when the agent's account or its rights have been removed: whoever
/// removes an installation removes these beside it, in any order, and an upgrade leaves them.
///
/// # Errors
/// When the API server does not answer, so that it cannot be told.
pub async fn is_leaving(cluster: &Cluster, daemon_set: &DaemonSetRef) -> Result<bool, ApiError> {
    const WHAT: &str = "GET daemonset";
    let DaemonSetRef { namespace, name } = daemon_set;
    let path = format!("/apis/apps/v1/namespaces/{}/daemonsets/{}", escaped(namespace), escaped(name));
    match cluster.get(WHAT, &path).await {
        Ok(answer) => Ok(parse::<Object>(WHAT, &answer)?.metadata.deletion_timestamp.is_some()),
        Err(error) if matches!(error.code(), Some(401 | 403 | 404)) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_two_parts() {
        let read = DaemonSetRef::parse("sotto-system/sotto-node").unwrap();
        assert_eq!((read.namespace.as_str(), read.name.as_str()), ("sotto-system", "sotto-node"));
        for wrong in ["", "x", "/x", "x/", "a/b/c"] {
            assert!(DaemonSetRef::parse(wrong).is_err(), "{wrong}");
        }
    }
}
