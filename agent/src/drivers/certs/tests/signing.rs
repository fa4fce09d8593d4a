//! What a local authority signs, and what it refuses to.

use rcgen::{BasicConstraints, IsCa};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::drivers::certs::keys::{CertificateRequest, PrivateKey};

const HOUR: Duration = Duration::from_hours(1);
const YEAR: Duration = Duration::from_hours(24 * 365);

fn request(csr: CertificateRequest, identity: &Identity, lifetime: Duration) -> SigningRequest {
    SigningRequest { csr, identity: identity.clone(), lifetime }
}

fn csr(key: &KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> CertificateRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(&identity("a").to_string())];
    edit(&mut params);
    CertificateRequest::from_pem(&params.serialize_request(key).unwrap().pem().unwrap()).unwrap()
}

fn signed(root: &Root, lifetime: Duration, now: SystemTime) -> Certificate {
    let csr = PrivateKey::generate().unwrap().request(&identity("a")).unwrap();
    let issued = root.issuer.sign(&request(csr, &identity("a"), lifetime), now).unwrap();
    Certificate::read(&issued.chain[0].clone().into()).unwrap()
}

#[test]
fn a_leaf_is_for_tls_and_names_its_identity_only() {
    let now = SystemTime::now();
    let root = root(&TrustDomain::default(), now);
    let csr = PrivateKey::generate().unwrap().request(&identity("a")).unwrap();
    let issued = root.issuer.sign(&request(csr, &identity("a"), HOUR), now).unwrap();
    assert_eq!(issued.chain.len(), 1, "a root that signs is not sent along");
    assert_eq!(issued.roots, [der(&root.files.certificate).to_vec()]);
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "critical, as the subject is empty");
    assert_eq!(names.value.general_names.len(), 1);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && purposes.server_auth && !purposes.any);
    assert_eq!(leaf.raw_serial().len(), 16);
}

#[test]
fn the_csr_is_as_istio_expects_it() {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::extensions::ParsedExtension;
    let request = PrivateKey::generate().unwrap().request(&identity("a")).unwrap();
    let (_, csr) = X509CertificationRequest::from_der(request.der()).unwrap();
    csr.verify_signature().unwrap();
    assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
    assert_eq!(csr.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2", "ecdsa-with-SHA256");
    let extensions: Vec<_> = csr.requested_extensions().unwrap().collect();
    let [ParsedExtension::SubjectAlternativeName(names)] = extensions.as_slice() else { panic!("{extensions:?}") };
    assert_eq!(names.general_names.len(), 1);
    // The extension's OID is followed by its critical flag: BOOLEAN TRUE.
    assert!(request.der().windows(8).any(|bytes| bytes == [0x06, 0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff]));
    assert!(request.pem().starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    assert_eq!(CertificateRequest::from_pem(&request.pem()).unwrap(), request);
}

#[test]
fn lifetimes_are_as_asked_but_end_with_the_authority() {
    let now = SystemTime::now();
    let root = root(&TrustDomain::default(), now);
    let check = |lifetime: Duration, before: Duration, after: Duration| {
        let leaf = signed(&root, lifetime, now);
        let off = |at: SystemTime, by: SystemTime| {
            at.duration_since(by).unwrap_or_else(|error| error.duration()) <= Duration::from_secs(1)
        };
        assert!(off(leaf.not_before, now - before), "{lifetime:?}: starts {:?}", leaf.not_before);
        assert!(off(leaf.not_after, now + after), "{lifetime:?}: ends {:?}", leaf.not_after);
    };
    check(Duration::from_secs(3), Duration::from_secs(3), Duration::from_secs(3));
    check(24 * HOUR, Duration::from_mins(2), 24 * HOUR);
    let rest = root.issuer.not_after().duration_since(now).unwrap();
    assert!(rest > 9 * YEAR && rest < 11 * YEAR);
    check(20 * YEAR, Duration::from_mins(2), rest);
    check(Duration::MAX, Duration::from_mins(2), rest);
    assert_ne!(signed(&root, HOUR, now).serial, signed(&root, HOUR, now).serial);
}

#[test]
fn an_expired_authority_signs_nothing() {
    let now = SystemTime::now();
    let root = root(&TrustDomain::default(), now);
    let csr = PrivateKey::generate().unwrap().request(&identity("a")).unwrap();
    let error = root.issuer.sign(&request(csr, &identity("a"), HOUR), now + 11 * YEAR).unwrap_err();
    assert!(matches!(&error, AuthorityError::Unavailable(reason) if reason.contains("expired")), "{error}");
}

#[test]
fn requests_that_are_refused() {
    let now = SystemTime::now();
    let root = root(&TrustDomain::default(), now);
    let key = KeyPair::generate().unwrap();
    let check = |csr: CertificateRequest, identity: &Identity, reason: &str| {
        let error = root.issuer.sign(&request(csr, identity, HOUR), now).unwrap_err();
        assert!(matches!(&error, AuthorityError::Refused(why) if why.contains(reason)), "{reason}: {error}");
    };
    let a = identity("a");
    check(csr(&key, |_| {}), &identity("b"), "names another identity");
    let foreign = Identity::new(TrustDomain::new("other.test").unwrap(), "default", "a").unwrap();
    let asks_foreign = csr(&key, |params| params.subject_alt_names = vec![uri(&foreign.to_string())]);
    check(asks_foreign.clone(), &foreign, "trust domain");
    check(asks_foreign, &a, "names another identity");
    check(csr(&key, |params| params.subject_alt_names.push(uri(&identity("b").to_string()))), &a, "exactly one name");
    let dns =
        |params: &mut CertificateParams| params.subject_alt_names.push(SanType::DnsName("a.test".try_into().unwrap()));
    check(csr(&key, dns), &a, "exactly one name");
    check(csr(&key, |params| params.subject_alt_names.clear()), &a, "exactly one name");
    check(csr(&key, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), &a, "authority's certificate");
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    check(csr(&p384, |_| {}), &a, "P-256");

    let mut forged = csr(&key, |_| {}).der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    check(CertificateRequest::from_der(forged).unwrap(), &a, "not valid");
    check(CertificateRequest::from_der(vec![0x30; 40]).unwrap(), &a, "not valid");
    assert!(CertificateRequest::from_pem("no PEM").is_err());
    assert!(CertificateRequest::from_pem(&"x".repeat(1 << 20)).is_err());
    assert!(CertificateRequest::from_der(vec![0; 1 << 20]).is_err());
}

#[test]
fn what_else_a_request_asks_for_is_not_granted() {
    let now = SystemTime::now();
    let root = root(&TrustDomain::default(), now);
    let key = KeyPair::generate().unwrap();
    let csr = csr(&key, |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "root of all");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    let issued = root.issuer.sign(&request(csr, &identity("a"), HOUR), now).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert!(!leaf.extended_key_usage().unwrap().unwrap().value.code_signing);
}

#[test]
fn an_answer_in_pem_is_taken_apart() {
    let pem = root(&TrustDomain::default(), SystemTime::now()).files.certificate;
    let issued = IssuedChain::from_pem(&pem.repeat(2), &pem.repeat(3)).unwrap();
    assert_eq!((issued.chain.len(), issued.roots.len()), (2, 3));
    for (chain, roots) in [("", &*pem), (&*pem, ""), ("junk", &pem), (&pem, &pem.repeat(101)), (&pem[..80], &pem)] {
        assert!(IssuedChain::from_pem(chain, roots).is_err(), "{chain:?} {}", roots.len());
    }
}

#[test]
fn no_debug_line_shows_a_key() {
    let now = SystemTime::now();
    let root = root(&TrustDomain::default(), now);
    let key = PrivateKey::generate().unwrap();
    let csr = key.request(&identity("a")).unwrap();
    let shown = format!("{key:?} {csr:?} {:?} {:?}", root.issuer, root.files);
    assert!(shown.len() < 200, "{shown}");
}
