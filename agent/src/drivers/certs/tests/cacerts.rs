//! Authorities from files: which ones are taken, and that each bad file is called by its name.

use rcgen::{BasicConstraints, Certificate as Signed, DnType, IsCa, KeyIdMethod, RsaKeySize, SignatureAlgorithm};

use super::*;
use crate::drivers::certs::ca::cacerts::{CA_CERT, CA_KEY, CERT_CHAIN, CaFault, ROOT_CERT};
use crate::drivers::certs::credentials::Credentials;
use crate::drivers::certs::keys::PrivateKey;

const HOUR: Duration = Duration::from_hours(1);

/// One authority above another, as plugged into Istio.
struct Link {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn authority_params(name: &str) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::Sha256;
    params.not_before = (now - HOUR).into();
    params.not_after = (now + 100 * HOUR).into();
    params
}

fn link(params: CertificateParams, key: KeyPair, above: Option<&Link>) -> Link {
    let signed: Signed = match above {
        None => params.self_signed(&key).unwrap(),
        Some(above) => params.signed_by(&key, &rcgen::Issuer::from_params(&above.params, &above.key)).unwrap(),
    };
    Link { params, key, pem: signed.pem() }
}

fn new_key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A root, an authority below it that `edit` may spoil, and the files that hold both.
fn plugged(edit: impl FnOnce(&mut CertificateParams)) -> (Link, Link, CaCerts) {
    let root = link(authority_params("root"), new_key(), None);
    let mut params = authority_params("intermediate");
    edit(&mut params);
    let ca = link(params, new_key(), Some(&root));
    let files = files(&root, &ca, &[&ca, &root]);
    (root, ca, files)
}

fn files(root: &Link, ca: &Link, chain: &[&Link]) -> CaCerts {
    CaCerts {
        root_cert: root.pem.clone().into_bytes(),
        ca_cert: ca.pem.clone().into_bytes(),
        ca_key: ca.key.serialize_pem().into_bytes().into(),
        cert_chain: chain.iter().map(|link| link.pem.as_str()).collect::<String>().into_bytes(),
    }
}

/// The authority is taken and its leaves, with `above` certificates after them, are good to peers.
fn check(files: &CaCerts, above: usize) {
    let now = SystemTime::now();
    let issuer = files.issuer(&TrustDomain::default(), now).map_err(|error| error.to_string()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = key.request(&identity("a")).unwrap();
    let request = SigningRequest { csr, identity: identity("a"), lifetime: 1000 * HOUR };
    let issued = issuer.sign(&request, now).unwrap();
    assert_eq!(issued.chain.len(), 1 + above);
    let credentials = Credentials::accept(&identity("a"), &key, issued, now).unwrap();
    assert!(credentials.not_after() <= now + 101 * HOUR, "no longer than the authority");
}

/// `file` is named, and its fault is one that `expected` knows.
fn check_refused(files: &CaCerts, file: &str, expected: impl Fn(&CaFault) -> bool) {
    let error = files.issuer(&TrustDomain::default(), SystemTime::now()).unwrap_err();
    assert!(error.file == file && expected(&error.fault), "{error}");
    assert!(error.to_string().starts_with(file), "{error}");
}

#[test]
fn a_root_may_sign_by_itself() {
    let root = link(authority_params("root"), new_key(), None);
    check(&files(&root, &root, &[]), 0);
    check(&files(&root, &root, &[&root]), 0);
}

#[test]
fn an_authority_below_a_root_is_sent_along() {
    let (root, ca, plugged) = plugged(|_| {});
    check(&plugged, 1);
    check(&files(&root, &ca, &[]), 1);
    check(&files(&root, &ca, &[&ca]), 1);
}

#[test]
fn authorities_in_between_are_sent_along() {
    let root = link(authority_params("root"), new_key(), None);
    let region = link(authority_params("region"), new_key(), Some(&root));
    let ca = link(authority_params("cluster"), new_key(), Some(&region));
    check(&files(&root, &ca, &[&ca, &region, &root]), 2);
    check_refused(&files(&root, &ca, &[&ca, &root]), CERT_CHAIN, |fault| matches!(fault, CaFault::NoChain(_)));
}

#[test]
fn keys_of_rsa_and_of_both_curves_sign() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let curve = |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm).unwrap();
    for key in [rsa, curve(&rcgen::PKCS_ECDSA_P256_SHA256), curve(&rcgen::PKCS_ECDSA_P384_SHA384)] {
        let root = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap();
        let root = link(authority_params("root"), root, None);
        let ca = link(authority_params("intermediate"), key, Some(&root));
        check(&files(&root, &ca, &[&ca, &root]), 1);
    }
}

#[test]
fn a_bundle_of_roots_is_trusted_without_those_that_are_over() {
    let (root, ca, _) = plugged(|_| {});
    let mut over = authority_params("old root");
    over.not_after = (SystemTime::now() - Duration::from_mins(1)).into();
    let over = link(over, new_key(), None);
    let other = link(authority_params("other root"), new_key(), None);
    let mut bundle = files(&root, &ca, &[&ca]);
    bundle.root_cert = format!("{}{}{}", over.pem, other.pem, root.pem).into_bytes();
    check(&bundle, 1);
    bundle.root_cert = over.pem.into_bytes();
    check_refused(&bundle, ROOT_CERT, |fault| matches!(fault, CaFault::Expired(_)));
    bundle.root_cert = other.pem.into_bytes();
    check_refused(&bundle, CERT_CHAIN, |fault| matches!(fault, CaFault::NoChain(_)));
}

#[test]
fn a_key_of_another_certificate() {
    let (_, _, mut files) = plugged(|_| {});
    files.ca_key = new_key().serialize_pem().into_bytes().into();
    check_refused(&files, CA_KEY, |fault| *fault == CaFault::KeyMismatch);
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    files.ca_key = rsa.serialize_pem().into_bytes().into();
    check_refused(&files, CA_KEY, |fault| *fault == CaFault::KeyMismatch);
}

#[test]
fn a_certificate_that_may_not_sign() {
    let (_, _, leaf) = plugged(|params| params.is_ca = IsCa::NoCa);
    check_refused(&leaf, CA_CERT, |fault| *fault == CaFault::NotAnAuthority);
    let (_, _, crl_only) = plugged(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    check_refused(&crl_only, CA_CERT, |fault| *fault == CaFault::NotAnAuthority);
}

#[test]
fn a_root_that_allows_no_authority_below_it() {
    let mut params = authority_params("root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = link(params, new_key(), None);
    let region = link(authority_params("region"), new_key(), Some(&root));
    let ca = link(authority_params("cluster"), new_key(), Some(&region));
    let mut unfit = files(&root, &ca, &[&ca, &region]);
    unfit.root_cert = root.pem.into_bytes();
    // Path lengths of trust anchors are not looked at (RFC 5280, section 6.1); those of certificates below are.
    check(&unfit, 2);
    let mut params = authority_params("region");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = link(authority_params("root"), new_key(), None);
    let region = link(params, new_key(), Some(&root));
    let ca = link(authority_params("cluster"), new_key(), Some(&region));
    check_refused(&files(&root, &ca, &[&ca, &region]), CERT_CHAIN, |fault| matches!(fault, CaFault::NoChain(_)));
}

#[test]
fn certificates_out_of_their_time() {
    let now = SystemTime::now();
    let (_, _, over) = plugged(|params| params.not_after = (now - Duration::from_mins(1)).into());
    check_refused(&over, CA_CERT, |fault| matches!(fault, CaFault::Expired(_)));
    let (_, _, early) = plugged(|params| params.not_before = (now + HOUR).into());
    check_refused(&early, CA_CERT, |fault| matches!(fault, CaFault::NotYetValid(_)));
}

#[test]
fn files_that_hold_something_else() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let unfinished = "-----BEGIN CERTIFICATE-----\nAAAA";
    let unreadable = |fault: &CaFault| matches!(fault, CaFault::Unreadable(_));
    for text in [broken, unfinished] {
        let (_, _, mut files) = plugged(|_| {});
        files.ca_cert = text.into();
        check_refused(&files, CA_CERT, unreadable);
        let (_, _, mut files) = plugged(|_| {});
        files.root_cert.extend_from_slice(text.as_bytes());
        check_refused(&files, ROOT_CERT, unreadable);
        let (_, _, mut files) = plugged(|_| {});
        files.cert_chain = text.into();
        check_refused(&files, CERT_CHAIN, unreadable);
    }
    for text in ["", "hello"] {
        let (_, _, mut files) = plugged(|_| {});
        files.ca_cert = text.into();
        check_refused(&files, CA_CERT, |fault| *fault == CaFault::NoCertificate);
        let (_, _, mut files) = plugged(|_| {});
        files.root_cert = text.into();
        check_refused(&files, ROOT_CERT, |fault| *fault == CaFault::NoCertificate);
    }
    let check_key = |text: &str, expected: &dyn Fn(&CaFault) -> bool| {
        let (_, _, mut files) = plugged(|_| {});
        files.ca_key = text.as_bytes().to_vec().into();
        check_refused(&files, CA_KEY, expected);
    };
    check_key("", &|fault| *fault == CaFault::NoKey);
    check_key(broken, &|fault| *fault == CaFault::NoKey);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    check_key(encrypted, &|fault| *fault == CaFault::EncryptedKey);
    let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    check_key(junk, &|fault| matches!(fault, CaFault::UnsupportedKey(_)));
}
