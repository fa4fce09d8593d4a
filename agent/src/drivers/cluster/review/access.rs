//! What may we do? Asked of the API server (SelfSubjectAccessReview, authorization.k8s.io/v1), which everybody may ask about himself.

use http::Method;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};

use super::super::client::Cluster;
use super::super::error::ApiError;
use super::super::objects::place::parse;

/// Something to do with objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// `list`, `watch`, `patch` …
    pub verb: &'static str,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The kind, in the plural.
    pub resource: &'static str,
    /// A part of the objects.
    pub subresource: Option<&'static str>,
    /// Only in this namespace, and only this object.
    pub object: Option<(String, String)>,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(part) = self.subresource {
            write!(f, "/{part}")?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.object {
            Some((namespace, name)) => write!(f, " {namespace}/{name}"),
            None => Ok(()),
        }
    }
}

/// Whether we may.
///
/// # Errors
/// [`ApiError`] when there is no answer.
pub async fn may(cluster: &Cluster, right: &Right) -> Result<bool, ApiError> {
    const WHAT: &str = "POST selfsubjectaccessreviews";
    let text = |text: &str| Some(text.to_owned());
    let (namespace, name) = right.object.clone().unzip();
    let attributes = ResourceAttributes {
        verb: text(right.verb),
        group: text(right.group),
        resource: text(right.resource),
        subresource: right.subresource.map(str::to_owned),
        namespace,
        name,
        ..ResourceAttributes::default()
    };
    let question = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..SelfSubjectAccessReview::default()
    };
    let body = serde_json::to_vec(&question).map_err(|error| ApiError::bad(WHAT, error))?;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = cluster.send(WHAT, Method::POST, path, ("application/json", body)).await?;
    let answer: SelfSubjectAccessReview = parse(WHAT, &answer)?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_named_as_operators_write_them() {
        let right = Right { verb: "patch", group: "", resource: "pods", subresource: Some("status"), object: None };
        assert_eq!(right.to_string(), "patch pods/status");
        let object = Some(("sotto-system".to_owned(), "sotto-node".to_owned()));
        let right = Right { verb: "get", group: "apps", resource: "daemonsets", subresource: None, object };
        assert_eq!(right.to_string(), "get daemonsets.apps sotto-system/sotto-node");
    }
}
