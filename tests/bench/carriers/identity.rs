//! Certificates for what does not sign its own: a root, and a leaf for each pod.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::{Mesh, Pod};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// An authority with the file names of Istio's `cacerts`.
pub(super) struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one in the mesh's directory of authorities.
    pub(super) fn create(mesh: &Mesh) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.distinguished_name = named("bench root");
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        let directory = mesh.ca_directory();
        for file in ["root-cert.pem", "ca-cert.pem", "cert-chain.pem"] {
            fs::write(directory.join(file), issuer.pem())?;
        }
        fs::write(directory.join("ca-key.pem"), issuer.key().serialize_pem())?;
        Ok(Self { directory, issuer })
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of the roots to trust.
    pub(super) fn roots(&self) -> PathBuf {
        self.directory.join("root-cert.pem")
    }

    /// Signs for a pod; returns the files of its chain and key.
    pub(super) fn sign(&self, pod: &Pod) -> Result<(PathBuf, PathBuf)> {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = vec![SanType::URI(pod.identity().try_into()?)];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let file = |kind: &str| self.directory.join(format!("{}-{kind}.pem", pod.name()));
        write(&file("chain"), &certificate.pem())?;
        write(&file("key"), &key.serialize_pem())?;
        Ok((file("chain"), file("key")))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(fs::write(path, text)?)
}
