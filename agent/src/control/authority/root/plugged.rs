//! An authority that an operator plugs in (`cacerts`), and changes now and then: what is trusted and what signs in the meantime.
//!
//! The operator's files say what there is; they cannot say since when. A root that was there a moment ago is trusted for as long as
//! certificates from under it may be alive, and an authority under a root that appears for the first time does not sign before
//! everybody has heard of that root, as long as the one before it can. Replicas remember this in memory: one that starts takes
//! the files as they are.

use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::drivers::certs::ca::cacerts::{CA_CERT, CA_KEY, CERT_CHAIN, CaCerts, CaCertsError, ROOT_CERT};
use crate::drivers::certs::ca::hierarchy::{UnreadableCertificate, bundle, split};
use crate::drivers::certs::ca::issuer::Issuer;
use crate::drivers::cluster::objects::secrets::SecretContent;
use crate::model::identity::TrustDomain;

/// A plugged-in authority over time.
#[derive(Debug, Default)]
pub struct Plugged {
    roots: Vec<Root>,
    signing: Option<SecretContent>,
}

#[derive(Debug)]
struct Root {
    pem: String,
    /// When it appeared; `None` if it was there from the start.
    since: Option<Instant>,
    /// When it was last among the files.
    seen: Instant,
}

/// Files that are no authority.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PluggedError {
    /// A file is not there.
    #[error("has no key {0}")]
    Missing(&'static str),
    /// The roots cannot be read.
    #[error("{ROOT_CERT}: {0}")]
    Roots(#[from] UnreadableCertificate),
    /// The files do not fit together.
    #[error(transparent)]
    Content(#[from] CaCertsError),
}

/// What follows from the files at a time.
#[derive(Debug)]
pub struct Chosen {
    /// What signs.
    pub issuer: Issuer,
    /// What to trust, PEM.
    pub bundle: String,
    /// Whether the files hold another authority that does not sign yet.
    pub waits: bool,
}

impl Plugged {
    /// Takes the files as they are at `at` (`now` on the wall clock). `wait` is how long a change of trust takes to reach everybody.
    ///
    /// # Errors
    /// [`PluggedError`] when neither the files nor those before them can be used.
    pub fn observe(
        &mut self,
        files: &SecretContent,
        trust_domain: &TrustDomain,
        wait: Duration,
        (now, at): (SystemTime, Instant),
    ) -> Result<Chosen, PluggedError> {
        let roots = std::str::from_utf8(file(files, ROOT_CERT)?).unwrap_or_default();
        let first = self.roots.is_empty();
        for pem in split(roots)? {
            match self.roots.iter_mut().find(|root| root.pem == pem) {
                Some(root) => root.seen = at,
                None => self.roots.push(Root { pem, since: (!first).then_some(at), seen: at }),
            }
        }
        self.roots.retain(|root| at.saturating_duration_since(root.seen) < wait);
        let all = bundle(self.roots.iter().map(|root| root.pem.as_str()))?;
        let known =
            self.roots.iter().filter(|root| root.since.is_none_or(|since| at.saturating_duration_since(since) >= wait));
        let known: String = known.map(|root| root.pem.as_str()).collect();

        // Does a root that everybody knows lead to the new authority?
        let is_known = issuer(files, &known, trust_domain, now).is_ok();
        let waiting = self.signing.as_ref().filter(|signing| !is_known && *signing != files);
        if let Some((before, issuer)) =
            waiting.and_then(|before| Some((before, issuer(before, &all, trust_domain, now).ok()?)))
        {
            // What signs is in use, whether it is among the files or not.
            let in_use = split(std::str::from_utf8(file(before, ROOT_CERT)?).unwrap_or_default())?;
            self.roots.iter_mut().filter(|root| in_use.contains(&root.pem)).for_each(|root| root.seen = at);
            return Ok(Chosen { issuer, bundle: all, waits: true });
        }
        let issuer = issuer(files, &all, trust_domain, now)?;
        self.signing = Some(files.clone());
        Ok(Chosen { issuer, bundle: all, waits: false })
    }
}

fn issuer(
    files: &SecretContent,
    roots: &str,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<Issuer, PluggedError> {
    let files = CaCerts {
        root_cert: roots.as_bytes().to_vec(),
        ca_cert: file(files, CA_CERT)?.to_vec(),
        ca_key: Zeroizing::new(file(files, CA_KEY)?.to_vec()),
        cert_chain: file(files, CERT_CHAIN)?.to_vec(),
    };
    Ok(files.issuer(trust_domain, now)?)
}

fn file<'a>(files: &'a SecretContent, name: &'static str) -> Result<&'a [u8], PluggedError> {
    files.data.get(name).map(Vec::as_slice).ok_or(PluggedError::Missing(name))
}
