//! Certificates that a peer may show, most of them wrong, and a peer that asks for none in return.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// What the intruder shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passport {
    Valid,
    Missing,
    Expired,
    NotYetValid,
    WrongRoot,
    WrongTrustDomain,
    TwoNames,
    Authority,
}

/// A chain and its key, signed with the mesh's authority in this folder as far as the passport allows.
pub(crate) fn issue(authority: &Path, passport: Passport) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let read = |file: &str| fs::read_to_string(authority.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let domain = if passport == Passport::WrongTrustDomain { "example.org" } else { "cluster.local" };
    let name = |account: &str| {
        let uri = format!("spiffe://{domain}/ns/demo/sa/{account}");
        SanType::URI(uri.try_into().expect("the name is ASCII"))
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name("intruder")];
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    (params.not_before, params.not_after) = (year(2020), year(2090));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    match passport {
        Passport::Expired => params.not_after = year(2021),
        Passport::NotYetValid => params.not_before = year(2080),
        Passport::TwoNames => params.subject_alt_names.push(name("second")),
        Passport::Authority => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Passport::Valid | Passport::Missing | Passport::WrongRoot | Passport::WrongTrustDomain => {}
    }
    let key = KeyPair::generate().expect("a key can be made");
    let (certificate, issuer) = if passport == Passport::WrongRoot {
        let own_key = KeyPair::generate().expect("a key can be made");
        let mut own = CertificateParams::default();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = own.self_signed(&own_key).expect("a root can be signed");
        (params.signed_by(&key, &Issuer::new(own, own_key)).expect("a certificate can be signed"), root.der().clone())
    } else {
        let pem = read("ca-cert.pem");
        let issuer_key = KeyPair::from_pem(&read("ca-key.pem")).expect("the authority's key is readable");
        let issuer = Issuer::from_ca_cert_pem(&pem, issuer_key).expect("the authority's certificate is readable");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("the authority's certificate is PEM");
        (params.signed_by(&key, &issuer).expect("a certificate can be signed"), der)
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("the key is PKCS #8");
    (vec![certificate.der().clone(), issuer], key)
}

/// Believes every server.
#[derive(Debug)]
pub(crate) struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
