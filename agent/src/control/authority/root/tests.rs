//! The rotation as a machine over simulated time, the record through its Secret, and the election.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::election::{Act, Election, Observed};
use super::plugged::Plugged;
use super::record::{ROTATE, Record};
use super::rotation::{self, Facts, Progress, Step, Timing, Wish};
use crate::drivers::certs::authority::SigningRequest;
use crate::drivers::certs::ca::cacerts::ROOT_CERT;
use crate::drivers::certs::ca::hierarchy::{Validity, split};
use crate::drivers::certs::ca::issuer::Issuer;
use crate::drivers::certs::credentials::Credentials;
use crate::drivers::certs::keys::PrivateKey;
use crate::drivers::cluster::objects::secrets::SecretContent;
use crate::model::identity::{Identity, TrustDomain};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const TIMING: Timing = Timing {
    max_leaf: DAY,
    wait: Duration::from_hours(25),
    root: Duration::from_hours(24 * 60),
    intermediate: Duration::from_hours(24 * 20),
};

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Issues a certificate and takes it into use as an agent would.
fn credentials(issuer: &Issuer, lifetime: Duration, now: SystemTime) -> Credentials {
    let identity = Identity::new(TrustDomain::default(), "a", "b").unwrap();
    let key = PrivateKey::generate().unwrap();
    let request = SigningRequest { csr: key.request(&identity).unwrap(), identity: identity.clone(), lifetime };
    Credentials::accept(&identity, &key, issuer.sign(&request, now).unwrap(), now).unwrap()
}

#[test]
fn each_step_is_due_when_it_is_due() {
    let now = start();
    let valid = |left: Duration| Validity { not_before: now - DAY, not_after: now + left };
    let next = |progress, root: Duration, intermediate: Duration, wish| {
        rotation::next(&Facts { progress, root: valid(root), intermediate: valid(intermediate), wish }, &TIMING, now)
    };
    let (far, near) = (TIMING.root, TIMING.intermediate);
    let distributing = |ago| Progress::Distributing { since: now - ago };
    let retiring = |ago| Progress::Retiring { since: now - ago };
    assert_eq!(next(Progress::Steady, far, near, None), None);
    assert_eq!(next(Progress::Steady, far, near, Some(Wish::Root)), Some(Step::Prepare));
    assert_eq!(next(Progress::Steady, DAY * 6, DAY * 5, None), Some(Step::Prepare), "a tenth of its life is left");
    assert_eq!(next(distributing(HOUR * 24), far, near, Some(Wish::Root)), None, "one at a time");
    assert_eq!(next(distributing(HOUR * 25), far, near, None), Some(Step::Switch));
    assert_eq!(
        next(distributing(HOUR), Duration::ZERO, Duration::ZERO, None),
        Some(Step::Switch),
        "nothing left to wait for"
    );
    assert_eq!(next(retiring(HOUR * 24), far, near, None), None);
    assert_eq!(next(retiring(HOUR * 25), far, near, None), Some(Step::Retire));
    assert_eq!(next(Progress::Steady, far, DAY * 6, None), Some(Step::RenewIntermediate));
    assert_eq!(next(Progress::Steady, far, near, Some(Wish::Intermediate)), Some(Step::RenewIntermediate));
    assert_eq!(next(distributing(HOUR), DAY * 2, DAY * 2, None), None, "it could not end later than its root");
    let ahead = Progress::Retiring { since: now + DAY };
    assert_eq!(next(ahead, far, near, None), None, "a clock that was set back");
}

/// How late a replica notices a change. Certificates are issued on the hour here: the last wrong one is an hour after the change.
const LATE: Duration = Duration::from_mins(119);

/// A workload with its certificate, and the roots that it was told with it.
#[derive(Debug)]
struct Live {
    ends: SystemTime,
    root: u32,
    trusts: Vec<u32>,
}

/// An authority as numbers.
struct Simulated {
    timing: Timing,
    now: SystemTime,
    progress: Progress,
    root: (u32, Validity),
    other: Option<(u32, Validity)>,
    intermediate: Validity,
    made: u32,
    steps: Vec<Step>,
}

impl Simulated {
    fn new(timing: Timing) -> Self {
        let now = start();
        let valid = |lifetime| Validity { not_before: now, not_after: now + lifetime };
        let (root, intermediate) = ((0, valid(timing.root)), valid(timing.intermediate));
        Self { timing, now, progress: Progress::Steady, root, other: None, intermediate, made: 0, steps: Vec::new() }
    }

    /// Does the step that is due; whether there was one.
    fn advance(&mut self, wish: Option<Wish>) -> bool {
        let (now, timing) = (self.now, self.timing);
        let facts = Facts { progress: self.progress, root: self.root.1, intermediate: self.intermediate, wish };
        let Some(step) = rotation::next(&facts, &timing, now) else { return false };
        let valid = |lifetime| Validity { not_before: now, not_after: now + lifetime };
        match step {
            Step::Prepare => {
                self.made += 1;
                self.other = Some((self.made, valid(timing.root)));
                self.progress = Progress::Distributing { since: now };
            }
            Step::Switch => {
                self.root = self.other.replace(self.root).unwrap();
                self.progress = Progress::Retiring { since: now };
            }
            Step::Retire => (self.other, self.progress) = (None, Progress::Steady),
            Step::RenewIntermediate => {}
        }
        if matches!(step, Step::Switch | Step::RenewIntermediate) {
            self.intermediate = valid(timing.intermediate);
            self.intermediate.not_after = self.intermediate.not_after.min(self.root.1.not_after);
        }
        self.steps.push(step);
        true
    }
}

/// A year in which somebody asks for a new root now and then. Workloads keep roots with their certificates until these end, and
/// one of two replicas notices every change `late`. Returns the steps, or when somebody met a certificate that it did not trust.
fn a_year(timing: Timing, late: Duration) -> Result<Vec<Step>, String> {
    let mut authority = Simulated::new(timing);
    let mut history = vec![(authority.now - late, 0, vec![0])];
    let mut live: Vec<Live> = Vec::new();
    for hour in 0..24 * 365u32 {
        let now = authority.now;
        if authority.advance((hour % 2000 == 999).then_some(Wish::Root)) {
            let trusts = [authority.root].into_iter().chain(authority.other).map(|(number, _)| number).collect();
            history.push((now, authority.root.0, trusts));
        }
        let enough = authority.intermediate.not_after.min(authority.root.1.not_after);
        assert!(now + timing.max_leaf < enough, "hour {hour}: the authority runs out");
        for seen in [now, now - late] {
            let (_, root, trusts) = history.iter().rev().find(|(at, ..)| *at <= seen).unwrap();
            live.push(Live { ends: now + timing.max_leaf, root: *root, trusts: trusts.clone() });
        }
        live.retain(|one| now < one.ends);
        for one in &live {
            if let Some(stranger) = live.iter().find(|peer| !one.trusts.contains(&peer.root)) {
                return Err(format!("hour {hour}: {one:?} does not trust {stranger:?}"));
            }
        }
        authority.now += HOUR;
    }
    Ok(authority.steps)
}

#[test]
fn nobody_is_cut_off_in_a_year_of_rotations() {
    let steps = a_year(TIMING, LATE).unwrap();
    let count = |wanted| steps.iter().filter(|step| **step == wanted).count();
    assert!(count(Step::Retire) >= 6 && count(Step::RenewIntermediate) >= 10, "{steps:?}");
    assert!(count(Step::Switch) - count(Step::Retire) <= 1, "{steps:?}");
}

#[test]
fn a_wait_that_is_too_short_cuts_somebody_off() {
    let short = |wait| a_year(Timing { wait, ..TIMING }, LATE);
    assert!(short(HOUR * 25).is_ok());
    assert!(short(HOUR * 24).is_err(), "replicas notice late");
    assert!(short(HOUR * 12).is_err(), "a renewal at half life is not soon enough: one may fail");
}

#[test]
fn a_rotation_through_the_secret_keeps_old_and_new_certificates_good() {
    let (domain, mut now) = (TrustDomain::default(), start());
    let mut annotations = BTreeMap::from([("team".to_owned(), "mesh".to_owned())]);
    let mut record = Record::create(&domain, &TIMING, now).unwrap();
    let first = split(&record.bundle().unwrap()).unwrap();
    let mut seen = Vec::new();
    annotations.insert(ROTATE.to_owned(), "root".to_owned());
    for _ in 0..120 {
        let facts = record.facts(&annotations).unwrap();
        if let Some(step) = rotation::next(&facts, &TIMING, now) {
            record = record.after(step, &domain, &TIMING, now).unwrap();
            let content = record.content(&annotations).unwrap();
            assert_eq!(content.annotations.keys().collect::<Vec<_>>(), ["team"], "the wish is taken away");
            annotations.clone_from(&content.annotations);
            record = Record::read(&content).unwrap();
            seen.push((step, split(&record.bundle().unwrap()).unwrap().len()));
        }
        let issuer = record.issuer(&domain, now).unwrap();
        assert!(issuer.not_after() > now + TIMING.max_leaf);
        let _accepted = credentials(&issuer, DAY, now);
        now += HOUR;
    }
    assert_eq!(seen, [(Step::Prepare, 2), (Step::Switch, 2), (Step::Retire, 1)]);
    assert_ne!(split(&record.bundle().unwrap()).unwrap(), first);
    let intermediate = record.after(Step::RenewIntermediate, &domain, &TIMING, now).unwrap();
    assert_eq!(intermediate.bundle().unwrap(), record.bundle().unwrap(), "the root stays");
    let _accepted = credentials(&intermediate.issuer(&domain, now).unwrap(), DAY, now);
}

#[test]
fn a_secret_that_holds_something_else_says_what() {
    let record = Record::create(&TrustDomain::default(), &TIMING, start()).unwrap();
    let whole = record.content(&BTreeMap::new()).unwrap();
    for key in ["signing-root-cert.pem", "signing-root-key.pem", "ca-cert.pem", "ca-key.pem"] {
        let mut part = whole.clone();
        part.data.remove(key);
        let error = Record::read(&part).unwrap_err().to_string();
        assert!(error.starts_with(&format!("has no key {key};")), "{error}");
    }
    let mut wrong = whole.clone();
    wrong.data.insert("ca-cert.pem".into(), b"nonsense".to_vec());
    assert!(Record::read(&wrong).unwrap().issuer(&TrustDomain::default(), start()).is_err());
    assert!(!format!("{record:?} {whole:?}").contains("PRIVATE"), "keys are not shown");
}

#[test]
fn a_plugged_in_authority_under_an_unknown_root_waits_until_the_root_is_known() {
    let (domain, now, begin) = (TrustDomain::default(), SystemTime::now(), Instant::now());
    let files = || Record::create(&domain, &TIMING, now).unwrap().content(&BTreeMap::new()).unwrap();
    let (old, new) = (files(), files());
    let wait = TIMING.wait;
    let mut plugged = Plugged::default();
    let mut look = |files: &SecretContent, after: Duration| {
        let chosen = plugged.observe(files, &domain, wait, (now, begin + after)).unwrap();
        let _accepted = credentials(&chosen.issuer, HOUR, now);
        (chosen.waits, split(&chosen.bundle).unwrap().len())
    };
    assert_eq!(look(&old, Duration::ZERO), (false, 1));
    assert_eq!(look(&new, HOUR), (true, 2), "both roots are trusted, the old authority signs on");
    assert_eq!(look(&new, HOUR * 2), (true, 2));
    assert_eq!(look(&new, wait), (true, 2));
    // The old authority signed until now: what it signed last lives on, under a root that is in no file any more.
    assert_eq!(look(&new, wait + HOUR), (false, 2));
    assert_eq!(look(&new, wait * 2 - HOUR), (false, 2));
    assert_eq!(look(&new, wait * 2), (false, 1));

    // An operator who adds the root first and the authority later loses no time.
    let mut both = old.clone();
    let joined = [&old.data[ROOT_CERT][..], &new.data[ROOT_CERT][..]].concat();
    both.data.insert(ROOT_CERT.into(), joined.clone());
    let mut careful = new.clone();
    careful.data.insert(ROOT_CERT.into(), joined);
    let mut plugged = Plugged::default();
    let mut look = |files: &SecretContent, after: Duration| {
        let chosen = plugged.observe(files, &domain, wait, (now, begin + after)).unwrap();
        (chosen.waits, split(&chosen.bundle).unwrap().len())
    };
    assert_eq!(look(&old, Duration::ZERO), (false, 1));
    assert_eq!(look(&both, HOUR), (false, 2));
    assert_eq!(look(&both, wait + HOUR), (false, 2));
    assert_eq!(look(&careful, wait + HOUR * 2), (false, 2));
}

#[test]
fn one_replica_leads_and_another_takes_over_when_it_falls_silent() {
    const LEASE: Duration = Duration::from_secs(15);
    fn lease<'a>(holder: &'a str, version: &'a str) -> Option<Observed<'a>> {
        Some(Observed { holder, version, duration: LEASE })
    }
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let (mut a, mut b) = (Election::new("a".into(), LEASE), Election::new("b".into(), LEASE));
    assert_eq!(a.observe(None, at(0)), Act::Hold);
    a.held(at(0));
    assert!(a.leads(at(9)) && !a.leads(at(10)), "a leader that cannot renew stops before others may start");
    // b cannot know how old the lease is, and waits for a whole one.
    assert_eq!(b.observe(lease("a", "1"), at(1)), Act::Wait);
    assert_eq!(b.observe(lease("a", "2"), at(10)), Act::Wait);
    assert_eq!(b.observe(lease("a", "2"), at(25)), Act::Wait);
    assert_eq!(b.observe(lease("a", "2"), at(26)), Act::Hold);
    b.held(at(26));
    assert!(b.leads(at(27)));
    assert_eq!(a.observe(lease("b", "3"), at(27)), Act::Wait);
    assert!(!a.leads(at(0)), "whoever has lost it knows");
    assert_eq!(a.observe(lease("", "4"), at(28)), Act::Hold, "given back");
}
