//! Single objects of a namespace: read whole, and written only in place of the version that was read.

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::drivers::cluster::{ApiError, Cluster};

/// An object's place: its API (`/api/v1`), its collection (`secrets`), its namespace and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) api: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl Place<'_> {
    /// The object, if it is there.
    pub(super) async fn read<T: DeserializeOwned>(&self, cluster: &Cluster) -> Result<Option<T>, ApiError> {
        let what = self.what("GET");
        match cluster.get(&what, &format!("{}/{}", self.collection(), escaped(self.name))).await {
            Ok(answer) => parse(&what, &answer).map(Some),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the object. 409 when it is there already.
    pub(super) async fn create<T: Serialize + DeserializeOwned>(
        &self,
        cluster: &Cluster,
        object: &T,
    ) -> Result<T, ApiError> {
        self.send(cluster, Method::POST, &self.collection(), object).await
    }

    /// Replaces the object. 409 when it has another version than `object` says.
    pub(super) async fn replace<T: Serialize + DeserializeOwned>(
        &self,
        cluster: &Cluster,
        object: &T,
    ) -> Result<T, ApiError> {
        self.send(cluster, Method::PUT, &format!("{}/{}", self.collection(), escaped(self.name)), object).await
    }

    async fn send<T: Serialize + DeserializeOwned>(
        &self,
        cluster: &Cluster,
        method: Method,
        path: &str,
        object: &T,
    ) -> Result<T, ApiError> {
        let what = self.what(method.as_str());
        let body = serde_json::to_vec(object).map_err(|error| ApiError::bad(&what, error))?;
        let answer = cluster.send(&what, method, path, ("application/json", body)).await?;
        parse(&what, &answer)
    }

    fn collection(&self) -> String {
        format!("{}/namespaces/{}/{}", self.api, escaped(self.namespace), self.plural)
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} {} {}/{}", self.plural, self.namespace, self.name)
    }
}

pub(in crate::drivers::cluster) fn parse<T: DeserializeOwned>(what: &str, answer: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(answer).map_err(|error| ApiError::bad(what, error))
}

/// Names of objects need no escaping; what is no such name must not become another question.
pub(in crate::drivers::cluster) fn escaped(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_inside_its_question() {
        assert_eq!(escaped("node-1.example"), "node-1.example");
        assert_eq!(escaped("a/../b?x&y=%"), "a%2F..%2Fb%3Fx%26y%3D%25");
    }
}
