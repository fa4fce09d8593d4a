//! Whose token is this? Asked of the API server (TokenReview, authentication.k8s.io/v1), which alone knows whether the pod that a
//! token is bound to still lives.

use std::collections::BTreeMap;

use http::Method;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use zeroize::Zeroizing;

use super::super::client::Cluster;
use super::super::error::ApiError;
use super::super::objects::place::parse;

/// What the API server knows about the owner of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// `system:serviceaccount:NAMESPACE:NAME` for a service account.
    pub username: String,
    /// More about the token, such as the pod that it is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Asks whose `token` is, where it is meant for one of `audiences`. `Err` inside says in the server's words why it is nobody's.
/// Needs the right to create `tokenreviews`.
///
/// # Errors
/// [`ApiError`] when there is no answer.
pub async fn review(
    cluster: &Cluster,
    token: &str,
    audiences: &[String],
) -> Result<Result<Reviewed, String>, ApiError> {
    const WHAT: &str = "POST tokenreviews";
    let question = TokenReview {
        spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(audiences.to_vec()) },
        ..TokenReview::default()
    };
    let body = Zeroizing::new(serde_json::to_vec(&question).map_err(|error| ApiError::bad(WHAT, error))?);
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = cluster.send(WHAT, Method::POST, path, ("application/json", body.to_vec())).await?;
    let answer: TokenReview = parse(WHAT, &answer)?;
    Ok(read(answer, audiences))
}

fn read(answer: TokenReview, audiences: &[String]) -> Result<Reviewed, String> {
    let status = answer.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Err(status.error.unwrap_or_else(|| "the token is not valid".to_owned()));
    }
    // A server without support for audiences answers without them, and the token may be for somebody else.
    if !status.audiences.unwrap_or_default().iter().any(|audience| audiences.contains(audience)) {
        return Err(format!("the token is not for the audience {}", audiences.join(" or ")));
    }
    let user = status.user.unwrap_or_default();
    Ok(Reviewed { username: user.username.unwrap_or_default(), extra: user.extra.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(status: &Value, expected: Result<&str, &str>) {
        let answer: TokenReview = serde_json::from_value(
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status}),
        )
        .unwrap();
        let read = read(answer, &["istio-ca".to_owned()]).map(|reviewed| reviewed.username);
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{status}");
    }

    #[test]
    fn only_a_token_for_this_audience_is_somebodys() {
        check(&json!({"authenticated": true, "audiences": ["istio-ca"], "user": {"username": "u"}}), Ok("u"));
        check(
            &json!({"authenticated": true, "user": {"username": "u"}}),
            Err("the token is not for the audience istio-ca"),
        );
        check(
            &json!({"authenticated": true, "audiences": ["other"]}),
            Err("the token is not for the audience istio-ca"),
        );
        check(&json!({"authenticated": false, "audiences": ["istio-ca"], "error": "expired"}), Err("expired"));
        check(&json!({}), Err("the token is not valid"));
    }
}
