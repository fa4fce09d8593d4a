//! The TLS that the mesh speaks: version 1.3 only, two cipher suites, both sides with a certificate, nothing resumed.
//!
//! A [`ServerConfig`] is made once per pod and a [`ClientConfig`] once per tunnel; both hold on to an identity. Each
//! handshake takes the certificate that is current then, so a renewal or new roots need no new configuration.

use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ConfigBuilder, ConfigSide, WantsVerifier, WantsVersions};

use super::session::Session;
use crate::drivers::certs::provider::provider;
use crate::drivers::certs::store::{CredentialsError, IdentityHandle};
use crate::drivers::certs::verify::Expected;
use crate::model::identity::Identity;

/// What a pod's listener offers to its clients.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    identity: IdentityHandle,
    protocols: Arc<[Vec<u8>]>,
}

/// How to open tunnels from an identity to a set of expected ones.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    identity: IdentityHandle,
    expected: Arc<[Identity]>,
    protocols: Arc<[Vec<u8>]>,
}

/// A server that shows `identity`'s certificate, asks for one of the same trust domain and offers `protocols` (ALPN,
/// the preferred one first, for example `[b"h2"]`).
#[must_use]
pub fn server_config(identity: &IdentityHandle, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    Arc::new(ServerConfig { identity: identity.clone(), protocols: owned(protocols) })
}

/// A client that shows `identity`'s certificate and speaks only to one of `expected`. An empty list refuses every
/// server.
#[must_use]
pub fn client_config(identity: &IdentityHandle, expected: Arc<[Identity]>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    Arc::new(ClientConfig { identity: identity.clone(), expected, protocols: owned(protocols) })
}

impl ServerConfig {
    /// Whose certificate clients see.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity.identity()
    }

    /// The library's configuration for one handshake, from parts that are parsed already.
    pub(super) fn session(&self) -> Result<(Arc<Session>, Arc<rustls::ServerConfig>), CredentialsError> {
        let credentials = self.identity.credentials()?;
        let expected = Expected::TrustDomain(self.identity().trust_domain().clone());
        let session = Session::new(credentials, expected);
        let mut config =
            tls13(rustls::ServerConfig::builder_with_details(provider(), Arc::new(self.identity.clock().clone())))
                .with_client_cert_verifier(Arc::<Session>::clone(&session))
                .with_cert_resolver(Arc::<Session>::clone(&session));
        config.alpn_protocols = self.protocols.to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Ok((session, Arc::new(config)))
    }
}

impl ClientConfig {
    /// Whose certificate servers see.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity.identity()
    }

    /// Which identities a server may have.
    #[must_use]
    pub fn expected(&self) -> &Arc<[Identity]> {
        &self.expected
    }

    /// The library's configuration for one handshake, from parts that are parsed already.
    pub(super) fn session(&self) -> Result<(Arc<Session>, Arc<rustls::ClientConfig>), CredentialsError> {
        let session = Session::new(self.identity.credentials()?, Expected::OneOf(Arc::clone(&self.expected)));
        let mut config =
            tls13(rustls::ClientConfig::builder_with_details(provider(), Arc::new(self.identity.clock().clone())))
                .dangerous()
                .with_custom_certificate_verifier(Arc::<Session>::clone(&session))
                .with_client_cert_resolver(Arc::<Session>::clone(&session));
        config.alpn_protocols = self.protocols.to_vec();
        config.enable_sni = false;
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_secret_extraction = true;
        Ok((session, Arc::new(config)))
    }
}

fn tls13<S: ConfigSide>(builder: ConfigBuilder<S, WantsVersions>) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_protocol_versions(&[&TLS13]).expect("the provider has suites and groups of TLS 1.3")
}

fn owned(protocols: &[&[u8]]) -> Arc<[Vec<u8>]> {
    protocols.iter().map(|protocol| protocol.to_vec()).collect()
}
