//! What a peer shows as its certificate, and what a node asks to be signed.
//!
//! The first byte of an input chooses its form: DER as it comes, or only what is signed, which is then signed with the
//! key of an authority that the reader trusts. A mutated certificate has no valid signature otherwise, and the rules
//! that come after the signature would never be reached.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SigningKey, date_time_ymd,
};
use sotto::drivers::certs::authority::{IssuedChain, SigningRequest};
use sotto::drivers::certs::credentials::{Credentials, Unusable};
use sotto::drivers::certs::keys::{CertificateRequest, PrivateKey};
use sotto::model::identity::Identity;

use crate::ca::issuer;
use crate::der;

pub(crate) const WORDS: &[&str] = &[
    "\u{6}\u{3}U\u{1d}\u{11}", // subjectAltName
    "\u{6}\u{3}U\u{1d}\u{13}", // basicConstraints
    "\u{6}\u{3}U\u{1d}\u{f}",  // keyUsage
    "\u{6}\u{3}U\u{1d}%",      // extKeyUsage
    "\u{6}\u{3}U\u{1d}\u{1e}", // nameConstraints
    "spiffe://cluster.local/ns/demo/sa/web",
    "\u{1}\u{1}\u{7f}",
    "270101000000Z",
    "20500101000000Z",
];

const NAME: &str = "spiffe://cluster.local/ns/demo/sa/web";

/// 2027-01-15: certificates made here are valid then.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

struct Mesh {
    root: Certificate,
    authority: Issuer<'static, KeyPair>,
    identity: Identity,
    ours: PrivateKey,
}

/// The keys are new in each process; nothing that a reader decides depends on which they are.
static MESH: LazyLock<Mesh> = LazyLock::new(|| {
    let key = key();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key).expect("a root");
    let ours = PrivateKey::generate().expect("a key");
    Mesh { root, authority: Issuer::new(params, key), identity: NAME.parse().expect("an identity"), ours }
});

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

pub(crate) fn certificate(data: &[u8]) {
    let Some((form, input)) = data.split_first() else { return };
    let leaf = presented(*form, input);
    match judge(*form, leaf.clone()) {
        // Every rule for peers was kept; only the key is not ours.
        Ok(_) | Err(Unusable::KeyMismatch) => {
            let named = leaf.windows(NAME.len()).any(|window| window == NAME.as_bytes());
            assert!(named, "a peer was taken for {NAME} whose certificate does not say so");
            let known = form % 2 == 1 || genuine(der::content(&leaf));
            assert!(known, "a certificate was accepted that our authority did not sign");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() <= 2500 && !text.contains(['\n', '\r', '\u{1b}']), "{text:?} does not fit a log line");
        }
    }
    let roots = IssuedChain { chain: vec![MESH.root.der().to_vec()], roots: vec![input.to_vec()] };
    let _ = Credentials::accept(&MESH.identity, &MESH.ours, roots, now());
}

fn presented(form: u8, input: &[u8]) -> Vec<u8> {
    match form % 2 {
        0 => input.to_vec(),
        _ => der::signed(input, &MESH.authority.key().sign(input).expect("a signature")),
    }
}

/// What peers would say of a certificate. A second one stands in for an intermediate: it must do no harm.
fn judge(form: u8, leaf: Vec<u8>) -> Result<Credentials, Unusable> {
    let chain = if form & 2 == 0 { vec![leaf] } else { vec![leaf.clone(), leaf] };
    let issued = IssuedChain { chain, roots: vec![MESH.root.der().to_vec()] };
    Credentials::accept(&MESH.identity, &MESH.ours, issued, now())
}

fn make_certificates() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let variants: [&dyn Fn(&mut CertificateParams); 6] = [
        &|_| {},
        &|params| params.subject_alt_names.push(SanType::DnsName("web.demo".try_into().expect("a name"))),
        &|params| params.subject_alt_names.push(uri("spiffe://cluster.local/ns/demo/sa/other")),
        &|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)),
        &|params| params.key_usages.push(KeyUsagePurpose::CrlSign),
        &|params| params.not_after = date_time_ymd(2026, 1, 1),
    ];
    for change in variants {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(NAME)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        change(&mut params);
        let certificate = params.signed_by(&key(), &MESH.authority).expect("a certificate");
        let content = der::content(certificate.der());
        seeds.extend([[&[1], content].concat(), [&[3], content].concat(), [&[0], certificate.der().as_ref()].concat()]);
    }
    seeds
}

/// The seeds that are signed as they are: what is signed in anything that is accepted must be in one of them.
static CERTIFICATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(make_certificates);

fn genuine(signed: &[u8]) -> bool {
    CERTIFICATES.iter().filter(|seed| seed[0] == 0).any(|seed| der::content(&seed[1..]) == signed)
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    CERTIFICATES.clone()
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().expect("ASCII"))
}

/// The key of the node that asks.
static ASKING: LazyLock<KeyPair> = LazyLock::new(key);

/// Another key than the one that a request is about.
static OTHER: LazyLock<KeyPair> = LazyLock::new(key);

pub(crate) fn signing_request(data: &[u8]) {
    let Some((form, input)) = data.split_first() else { return };
    let csr = match form % 4 {
        0 => CertificateRequest::from_der(input.to_vec()).ok(),
        1 => assembled(input, &ASKING),
        2 => std::str::from_utf8(input).ok().and_then(|text| CertificateRequest::from_pem(text).ok()),
        _ => assembled(input, &OTHER),
    };
    let Some(csr) = csr else { return };
    let lifetime = Duration::from_secs(u64::from(*form) << 30);
    let request = SigningRequest { csr: csr.clone(), identity: MESH.identity.clone(), lifetime };
    match issuer().sign(&request, now()) {
        Ok(issued) => {
            assert!(csr.der().windows(NAME.len()).any(|window| window == NAME.as_bytes()), "signed for another name");
            assert_ne!(form % 4, 3, "a request was signed that its key did not sign");
            match Credentials::accept(&MESH.identity, &MESH.ours, issued, now()) {
                Err(Unusable::KeyMismatch) => {}
                other => panic!("what the issuer signs is no good: {other:?}"),
            }
        }
        Err(error) => assert!(error.to_string().len() < 2500, "{error}"),
    }
}

/// A request about the key [`ASKING`], signed by `signer`. The subject is as long as the first byte says; the attributes
/// are the rest.
fn assembled(input: &[u8], signer: &KeyPair) -> Option<CertificateRequest> {
    let (length, rest) = input.split_first()?;
    let (subject, attributes) = rest.split_at(usize::from(*length).min(rest.len()));
    let public = ASKING.subject_public_key_info();
    let info = der::value(der::SEQUENCE, &[&[2, 1, 0], subject, &public, attributes].concat());
    CertificateRequest::from_der(der::signed(&info, &signer.sign(&info).expect("a signature"))).ok()
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    let public = ASKING.subject_public_key_info();
    let mut seeds = Vec::new();
    for (names, is_ca) in
        [(vec![NAME], false), (vec![NAME, NAME], false), (vec![NAME], true), (vec!["spiffe://x"], false)]
    {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.into_iter().map(uri).collect();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let csr = params.serialize_request(&*ASKING).expect("a request");
        let info = der::content(csr.der());
        let at = info.windows(public.len()).position(|window| window == public).expect("the key is in its request");
        let subject = &info[der::head(info).0 + 3..at];
        let length = u8::try_from(subject.len()).expect("a short subject");
        for form in [1, 3] {
            seeds.push([&[form, length], subject, &info[at + public.len()..]].concat());
        }
        seeds.push([&[0], csr.der().as_ref()].concat());
        seeds.push([&[2], csr.pem().expect("PEM").as_bytes()].concat());
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise what is asserted about accepted ones would be about none.
    #[test]
    fn seeds_that_are_meant_to_be_accepted_are() {
        let accepted: Vec<bool> = certificate_seeds()
            .iter()
            .map(|seed| matches!(judge(seed[0], presented(seed[0], &seed[1..])), Err(Unusable::KeyMismatch)))
            .collect();
        // Three forms of each: the plain one, one with a DNS name besides, and four that break a rule.
        assert_eq!(accepted, [[true; 6].as_slice(), &[false; 12]].concat());
    }
}
