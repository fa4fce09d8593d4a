//! Who calls, from what the API server says about a token.

use std::collections::BTreeMap;
use std::fmt;

/// The user name of a service account begins with this.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Where the API server says which pod a token is bound to...
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// ... and, since Kubernetes 1.30, on which node that pod runs.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The pod that a token is bound to: the token ends with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundPod {
    /// Its name; its namespace is the service account's.
    pub name: String,
    /// Tells it from an earlier pod of the same name.
    pub uid: String,
    /// The node that it runs on, if the API server says so.
    pub node: Option<String>,
}

/// The owner of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Whom the caller runs as.
    pub account: ServiceAccount,
    /// In which pod. A token that was made for no pod has none.
    pub pod: Option<BoundPod>,
}

impl ServiceAccount {
    /// Reads `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is not NAMESPACE/SERVICE-ACCOUNT")),
        }
    }
}

impl Caller {
    /// Takes the API server's words apart.
    ///
    /// # Errors
    /// When the owner is no service account.
    pub fn read(username: &str, extra: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let parts = username.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
        let Some((namespace, name)) = parts.filter(|(namespace, name)| is_name(namespace) && is_name(name)) else {
            return Err(format!("the token is {username:?}'s, which is no service account"));
        };
        // Several values would leave open which one counts.
        let single = |key: &str| match extra.get(key).map(Vec::as_slice) {
            Some([value]) if !value.is_empty() => Some(value.clone()),
            _ => None,
        };
        let pod = match (single(POD_NAME), single(POD_UID)) {
            (Some(name), Some(uid)) => Some(BoundPod { name, uid, node: single(NODE_NAME) }),
            _ => None,
        };
        Ok(Self { account: ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }, pod })
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service account {}", self.account)?;
        if let Some(pod) = &self.pod {
            write!(f, " in pod {}", pod.name)?;
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(username: &str, extra: &[(&str, &[&str])]) -> Result<Caller, String> {
        let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        Caller::read(username, &extra.iter().map(|(key, of)| ((*key).to_owned(), values(of))).collect())
    }

    #[test]
    fn a_caller_is_a_service_account_and_perhaps_a_pod() {
        let bound: [(&str, &[&str]); 3] = [(POD_NAME, &["p"]), (POD_UID, &["u"]), (NODE_NAME, &["n"])];
        let caller = read("system:serviceaccount:mesh:agent", &bound).unwrap();
        assert_eq!(caller.to_string(), "service account mesh/agent in pod p");
        assert_eq!(caller.pod.unwrap().node.as_deref(), Some("n"));
        assert_eq!(read("system:serviceaccount:mesh:agent", &bound[..2]).unwrap().pod.unwrap().node, None);
        assert_eq!(read("system:serviceaccount:mesh:agent", &bound[..1]).unwrap().pod, None);
        let two: [(&str, &[&str]); 2] = [(POD_NAME, &["p", "q"]), (POD_UID, &["u"])];
        assert_eq!(read("system:serviceaccount:mesh:agent", &two).unwrap().pod, None);
    }

    #[test]
    fn nobody_else_is_a_caller() {
        for username in [
            "admin",
            "system:node:n",
            "system:serviceaccount:a",
            "system:serviceaccount::b",
            "system:serviceaccount:a:b:c",
            "",
        ] {
            assert!(read(username, &[]).is_err(), "{username}");
        }
    }
}
