//! What the plugin says to the node's agent and what the agent answers: one JSON object each way over a Unix socket, ended by
//! the end of the stream.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The most bytes of a request or an answer.
pub const LONGEST_MESSAGE: usize = 256 * 1024;

/// A pod as a container runtime names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, where the runtime tells.
    pub uid: Option<String>,
}

/// What happens to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// It comes, and must not run before the agent has it or does not want it.
    Add {
        /// Its pod.
        pod: PodReference,
        /// The runtime's name of it.
        container: String,
        /// The path of its network namespace.
        netns: PathBuf,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// Is it as [`Self::Add`] left it?
    Check {
        /// Its pod.
        pod: PodReference,
        /// The runtime's name of it.
        container: String,
    },
    /// It goes.
    Del {
        /// The runtime's name of it.
        container: String,
    },
    /// These are all that still are.
    Gc {
        /// The runtime's names of them.
        containers: Vec<String>,
    },
    /// Could one come?
    Status,
}

/// What the agent says to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase", deny_unknown_fields)]
pub enum Answer {
    /// It is as it should be: carried by the mesh, or not part of it.
    Done {
        /// Whether the mesh carries its connections.
        enrolled: bool,
    },
    /// It is not.
    Failed {
        /// Why, and what to do.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let pod = PodReference { namespace: "demo".into(), name: "web".into(), uid: Some("u".into()) };
        for request in [
            Request::Add {
                pod: pod.clone(),
                container: "c".into(),
                netns: "/run/netns/x".into(),
                addresses: vec!["10.1.0.5".parse().unwrap()],
            },
            Request::Check { pod, container: "c".into() },
            Request::Del { container: "c".into() },
            Request::Gc { containers: vec!["c".into()] },
            Request::Status,
        ] {
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request, "{text}");
        }
        assert!(serde_json::from_str::<Request>(r#"{"command":"del","container":"c","more":1}"#).is_err());
        let answer = Answer::Failed { message: "no".into() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"answer":"failed","message":"no"}"#);
    }
}
