//! The authority that a node role asks for certificates.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::control::authority::local::LocalAuthority;
use crate::control::authority::remote::{self, RemoteAuthority};
use crate::drivers::certs::authority::Authority;
use crate::drivers::certs::clock::Clock;
use crate::model::identity::TrustDomain;

/// Who signs the pods' certificates.
#[derive(Debug)]
pub enum AuthorityChoice {
    /// This process, with an authority in a directory.
    Directory(PathBuf),
    /// The authority of a cluster.
    Remote(remote::Config),
}

/// Opens the chosen authority. One in the network is not asked yet.
///
/// # Errors
/// When the directory holds no usable authority.
pub fn open(choice: AuthorityChoice, trust_domain: &TrustDomain) -> anyhow::Result<Arc<dyn Authority>> {
    match choice {
        AuthorityChoice::Directory(directory) => {
            let authority = LocalAuthority::open(&directory, trust_domain, Clock::system());
            Ok(Arc::new(authority.with_context(|| format!("the certificate authority in {}", directory.display()))?))
        }
        AuthorityChoice::Remote(config) => Ok(Arc::new(RemoteAuthority::new(config))),
    }
}
