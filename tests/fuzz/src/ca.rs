//! The files of an authority.

use std::sync::LazyLock;

use pem::Pem;
use sotto::drivers::certs::authority::IssuedChain;
use sotto::drivers::certs::ca::cacerts::CaCerts;
use sotto::drivers::certs::ca::issuer::{Issuer, SelfSigned};
use sotto::model::identity::TrustDomain;
use zeroize::Zeroizing;

use crate::certs::now;

pub(crate) const WORDS: &[&str] = &[
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----END PRIVATE KEY-----\n",
    "-----BEGIN RSA PRIVATE KEY-----\n",
    "-----BEGIN EC PRIVATE KEY-----\n",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    "Proc-Type: 4,ENCRYPTED\n",
    "=",
    "====",
];

/// Ends one file; not in any PEM.
const END: u8 = 0;

static OURS: LazyLock<(SelfSigned, Issuer)> = LazyLock::new(|| {
    let ours = SelfSigned::create(&TrustDomain::default(), now()).expect("an authority");
    let issuer = cacerts([ours.certificate.as_bytes(), ours.certificate.as_bytes(), ours.key.as_bytes(), b""])
        .issuer(&TrustDomain::default(), now())
        .expect("an issuer");
    (ours, issuer)
});

/// An authority that signs for the default trust domain.
pub(crate) fn issuer() -> &'static Issuer {
    &OURS.1
}

fn cacerts([root_cert, ca_cert, ca_key, cert_chain]: [&[u8]; 4]) -> CaCerts {
    CaCerts {
        root_cert: root_cert.to_vec(),
        ca_cert: ca_cert.to_vec(),
        ca_key: Zeroizing::new(ca_key.to_vec()),
        cert_chain: cert_chain.to_vec(),
    }
}

/// The first byte says which of our own files the input replaces (one bit each), and whether as text or as DER, which
/// is then put into PEM.
pub(crate) fn files(data: &[u8]) {
    let Some((form, input)) = data.split_first() else { return };
    let own = &OURS.0;
    let mut files =
        [own.certificate.clone(), own.certificate.clone(), own.key.to_string(), String::new()].map(String::into_bytes);
    let mut pieces = input.splitn(4, |byte| *byte == END);
    for (number, file) in files.iter_mut().enumerate() {
        if form & (1 << number) != 0 {
            let label = match number {
                2 if form & 0x20 != 0 => "RSA PRIVATE KEY",
                2 if form & 0x40 != 0 => "EC PRIVATE KEY",
                2 => "PRIVATE KEY",
                _ => "CERTIFICATE",
            };
            // DER holds the byte that ends a text: it goes whole into every file that is replaced.
            *file = if form & 0x10 == 0 {
                pieces.next().unwrap_or_default().to_vec()
            } else {
                pem::encode(&Pem::new(label, input)).into_bytes()
            };
        }
    }
    let [root, certificate, key, chain] = &files;
    match cacerts([root, certificate, key, chain]).issuer(&TrustDomain::default(), now()) {
        Ok(issuer) => assert!(issuer.not_after() >= now()),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 2500 && !text.contains(['\n', '\r', '\u{1b}']), "{text:?} does not fit a log line");
            assert_ne!(form & 0x0f, 0, "our own files are good");
        }
    }
    if let (Ok(chain), Ok(roots)) = (std::str::from_utf8(certificate), std::str::from_utf8(root))
        && let Ok(answer) = IssuedChain::from_pem(chain, roots)
    {
        assert!((1..=100).contains(&answer.chain.len()) && (1..=100).contains(&answer.roots.len()));
    }
}

pub(crate) fn file_seeds() -> Vec<Vec<u8>> {
    let own = &OURS.0;
    let parts =
        [own.certificate.as_bytes(), own.certificate.as_bytes(), own.key.as_bytes(), own.certificate.as_bytes()];
    let mut seeds = vec![vec![0], [&[0x0f], parts.join(&END).as_slice()].concat()];
    for (number, text) in parts.iter().enumerate() {
        let der = pem::parse(text).expect("our own PEM").into_contents();
        seeds.push([&[1 << number], *text].concat());
        seeds.push([&[0x10 | 1 << number], der.as_slice()].concat());
    }
    seeds
}
