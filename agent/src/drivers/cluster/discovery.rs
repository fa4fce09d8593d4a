//! Which version of a kind the API server has, if it has the kind at all.

use serde::Deserialize;

use super::client::Cluster;
use super::error::ApiError;
use super::resource::Resource;

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    name: String,
}

/// The best version of `resource` that the server has; none if it has none of them.
///
/// # Errors
/// When the server does not answer, or is just starting: then a kind that is not there may still come.
pub(super) async fn served(cluster: &Cluster, resource: &Resource) -> Result<Option<&'static str>, ApiError> {
    // Kinds of custom resources appear some moments after the server begins to answer. Asked first: what is said to be absent
    // afterwards was absent from a server that was ready.
    let ready = cluster.get("/readyz", "/readyz").await;
    for &version in resource.versions {
        let path = format!("{}/{version}", resource.base());
        match cluster.get(&path, &path).await {
            Ok(answer) => {
                let list: ResourceList =
                    serde_json::from_slice(&answer).map_err(|error| ApiError::bad(&path, error))?;
                if list.resources.unwrap_or_default().iter().any(|entry| entry.name == resource.plural) {
                    return Ok(Some(version));
                }
            }
            Err(error) if error.code() == Some(404) => {}
            Err(error) => return Err(error),
        }
    }
    match ready {
        Ok(_) => Ok(None),
        // A role without the right to ask: the server's word has to do.
        Err(error) if matches!(error.code(), Some(401 | 403 | 404)) => Ok(None),
        Err(error) => Err(error),
    }
}
