//! One ConfigMap at a time, kept at a wanted content.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::place::Place;
use crate::drivers::cluster::{ApiError, Cluster};

/// Makes the ConfigMap hold `value` under `key`; other keys stay. Returns whether something had to be written.
///
/// # Errors
/// [`ApiError`]; with the code 409 when somebody else writes at the same time.
pub async fn keep(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    key: &str,
    value: &str,
) -> Result<bool, ApiError> {
    let place = Place { api: "/api/v1", plural: "configmaps", namespace, name };
    let found: Option<ConfigMap> = place.read(cluster).await?;
    let is_there = found.is_some();
    let mut map = found.unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    let data = map.data.get_or_insert_default();
    if data.get(key).is_some_and(|there| there == value) {
        return Ok(false);
    }
    data.insert(key.to_owned(), value.to_owned());
    if is_there {
        place.replace(cluster, &map).await?
    } else {
        place.create(cluster, &map).await?
    };
    Ok(true)
}
