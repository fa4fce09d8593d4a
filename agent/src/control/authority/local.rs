//! An authority in this process: signs for one trust domain with a key from a directory.

use std::path::Path;
use std::time::SystemTime;

use futures_util::future::{self, BoxFuture};

use super::directory::{self, DirectoryError};
use crate::drivers::certs::authority::{Authority, AuthorityError, IssuedChain, SigningRequest};
use crate::drivers::certs::ca::issuer::Issuer;
use crate::drivers::certs::clock::Clock;
use crate::model::identity::TrustDomain;

/// The local authority of a node, or of several nodes that share the directory.
#[derive(Debug)]
pub struct LocalAuthority {
    issuer: Issuer,
    clock: Clock,
}

impl LocalAuthority {
    /// Opens the authority in `directory`, whose files have the names of Istio's `cacerts`, and makes it if there is
    /// none. Blocks on files.
    ///
    /// # Errors
    /// [`DirectoryError`] when the files cannot be read or made, are not all there, or are not an authority.
    pub fn open(directory: &Path, trust_domain: &TrustDomain, clock: Clock) -> Result<Self, DirectoryError> {
        let issuer = directory::open(directory, trust_domain, clock.now())?;
        Ok(Self { issuer, clock })
    }

    /// When the authority's own certificate, or one above it, ends. It signs nothing that lives longer.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.issuer.not_after()
    }
}

impl Authority for LocalAuthority {
    fn sign(&self, request: SigningRequest) -> BoxFuture<'_, Result<IssuedChain, AuthorityError>> {
        // Tens of microseconds with an EC key, a few milliseconds with RSA: the control runtime can spare that.
        Box::pin(future::lazy(move |_| self.issuer.sign(&request, self.clock.now())))
    }
}
