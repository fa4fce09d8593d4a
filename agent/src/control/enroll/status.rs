//! What became of the pods that ought to be carried, for operators.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::plan::Wanted;

/// All pods of the node that are, or ought to be, carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EnrolmentStatus {
    /// In the order of their UIDs.
    pub pods: Vec<PodStatus>,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PodStatus {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whom its certificate names.
    pub identity: String,
    /// Where its network namespace was found.
    pub netns: Option<PathBuf>,
    /// Whether its traffic is carried.
    pub enrolled: bool,
    /// Why not (yet).
    pub waiting_for: Option<String>,
}

impl PodStatus {
    /// A pod that is carried, or waits for something.
    pub(super) fn of(wanted: &Wanted, found: Option<&Path>, waiting_for: Option<String>) -> Self {
        Self {
            namespace: wanted.name.namespace.to_string(),
            name: wanted.name.name.to_string(),
            uid: wanted.uid.to_string(),
            ips: wanted.ips.clone(),
            identity: wanted.identity.to_string(),
            netns: found.or(wanted.netns.as_deref()).map(Path::to_path_buf),
            enrolled: waiting_for.is_none(),
            waiting_for,
        }
    }
}
