//! One Secret at a time, read and written whole, and written only if nobody else has written it in between.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use zeroize::Zeroize;

use super::place::Place;
use crate::drivers::cluster::{ApiError, Cluster};

/// The content of a Secret. Not shown by `Debug`, and overwritten when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretContent {
    /// By key.
    pub data: BTreeMap<String, Vec<u8>>,
    /// The Secret's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A Secret as it was read.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What it holds.
    pub content: SecretContent,
    /// The rest of it, which is written back as it was.
    metadata: ObjectMeta,
}

impl Stored {
    /// Changes with every write.
    #[must_use]
    pub fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }
}

/// Reads a Secret, if it is there.
///
/// # Errors
/// [`ApiError`] when there is no answer.
pub async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<Stored>, ApiError> {
    let secret: Option<Secret> = place(namespace, name).read(cluster).await?;
    Ok(secret.map(stored))
}

/// Writes a Secret: a new one where `replaces` is `None`, else in place of exactly that version.
///
/// # Errors
/// [`ApiError`]; with the code 409 when it is there already, or no longer the version that was read.
pub async fn write(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    content: &SecretContent,
    replaces: Option<&Stored>,
) -> Result<Stored, ApiError> {
    let new =
        || ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
    let mut metadata = replaces.map_or_else(new, |stored| stored.metadata.clone());
    metadata.annotations = Some(content.annotations.clone());
    metadata.managed_fields = None;
    let data = content.data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect();
    let secret = Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() };
    let place = place(namespace, name);
    let written = match replaces {
        None => place.create(cluster, &secret).await?,
        Some(_) => place.replace(cluster, &secret).await?,
    };
    Ok(stored(written))
}

fn stored(secret: Secret) -> Stored {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    let annotations = secret.metadata.annotations.clone().unwrap_or_default();
    Stored { content: SecretContent { data, annotations }, metadata: secret.metadata }
}

fn place<'a>(namespace: &'a str, name: &'a str) -> Place<'a> {
    Place { api: "/api/v1", plural: "secrets", namespace, name }
}

impl Drop for SecretContent {
    fn drop(&mut self) {
        self.data.values_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for SecretContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.data.keys()).finish()
    }
}
