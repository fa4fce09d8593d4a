//! The scanner by itself: no files, only what they would look like.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mesh::source::directory::scan::{
    Action, Fingerprint, Listing, RESTLESS, SETTLE_CHANGED, SETTLE_NEW, Scanner, Sighting,
};
use crate::mesh::source::directory::watch::RESCAN;

const NAME: &str = "pods.yaml";

fn version(number: i64) -> Fingerprint {
    Fingerprint { device: 1, inode: 1, length: 10, modified: (number, 0), changed: (number, 0) }
}

fn listing(number: i64) -> Listing {
    [(Arc::from(NAME), Sighting::File(version(number)))].into()
}

fn read(number: i64) -> Vec<Action> {
    vec![Action::Read(NAME.into(), version(number))]
}

#[test]
fn changes_take_effect_well_under_a_second_even_without_hints() {
    assert!(RESCAN + SETTLE_CHANGED < Duration::from_millis(800));
    assert!(SETTLE_NEW <= SETTLE_CHANGED);
}

#[test]
fn whatever_the_writer_does_only_what_held_still_is_read_and_in_time() {
    for seed in 0..200 {
        let mut writer = Writer::new(seed);
        for _ in 0..200 {
            // The writer pauses for less than the file has to hold still, now and then for longer.
            let long = writer.random.u8(..10) == 0;
            let pause = if long { 300 } else { writer.random.u64(..80) };
            writer.pause(Duration::from_millis(pause));
            assert!(!long || writer.taken == Some(writer.number), "what held still was not read");
            writer.number += 1;
            writer.written_at = writer.now;
        }
    }
}

struct Writer {
    random: fastrand::Rng,
    scanner: Scanner,
    now: Instant,
    written_at: Instant,
    number: i64,
    taken: Option<i64>,
}

impl Writer {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let (random, scanner) = (fastrand::Rng::with_seed(seed), Scanner::default());
        Self { random, scanner, now, written_at: now, number: 0, taken: None }
    }

    /// Lets the scanner look whenever it likes to, while nothing is written.
    fn pause(&mut self, pause: Duration) {
        let wake = self.now + pause;
        while self.now < wake {
            let scan = self.scanner.observe(&listing(self.number), self.now);
            for action in scan.actions {
                self.read(&action);
            }
            assert!(self.taken == Some(self.number) || scan.look_again.is_some(), "nobody would look again");
            let next = Duration::from_millis(self.random.u64(1..50));
            self.now += scan.look_again.unwrap_or(RESCAN).min(next);
        }
    }

    fn read(&mut self, action: &Action) {
        assert_eq!(*action, read(self.number)[0]);
        let still_for = self.now - self.written_at;
        let patience = if self.taken.is_none() { SETTLE_NEW } else { SETTLE_CHANGED };
        assert!(still_for >= patience, "read after {still_for:?}");
        self.scanner.taken(NAME, version(self.number));
        self.taken = Some(self.number);
    }
}

#[test]
fn a_file_that_never_holds_still_is_reported_once_and_read_in_the_end() {
    let mut now = Instant::now();
    let mut scanner = Scanner::default();
    scanner.observe(&listing(0), now);
    now += SETTLE_NEW;
    assert_eq!(scanner.observe(&listing(0), now).actions, read(0));
    scanner.taken(NAME, version(0));
    let (mut reports, mut number) = (Vec::new(), 0);
    let end = now + RESTLESS * 3;
    while now < end {
        number += 1;
        now += Duration::from_millis(100);
        reports.extend(scanner.observe(&listing(number), now).actions);
    }
    assert!(matches!(reports.as_slice(), [Action::Report(_, why)] if why.contains("keeps changing")), "{reports:?}");
    now += SETTLE_CHANGED;
    assert_eq!(scanner.observe(&listing(number), now).actions, read(number));
    scanner.taken(NAME, version(number));
    assert!(scanner.is_settled());
}

#[test]
fn ages_from_the_file_system_spare_the_wait_at_the_start_only() {
    let now = Instant::now();
    let mut scanner = Scanner::default();
    assert_eq!(scanner.observe(&listing(0), now).look_again, Some(SETTLE_NEW));
    scanner.trust_ages(&[(Arc::from(NAME), Duration::from_millis(30))].into(), now);
    assert_eq!(scanner.observe(&listing(0), now).look_again, Some(Duration::from_millis(50)));
    scanner.trust_ages(&[(Arc::from(NAME), Duration::from_secs(3600))].into(), now);
    assert_eq!(scanner.observe(&listing(0), now).actions, read(0));
}

#[test]
fn what_could_not_be_read_is_tried_again_until_it_was() {
    let now = Instant::now();
    let mut scanner = Scanner::default();
    scanner.observe(&listing(0), now);
    for _ in 0..3 {
        assert_eq!(scanner.observe(&listing(0), now + SETTLE_NEW).actions, read(0));
    }
    scanner.taken(NAME, version(0));
    assert_eq!(scanner.observe(&listing(0), now + SETTLE_NEW).actions, []);
}

#[test]
fn what_is_unreadable_is_reported_once_and_what_is_gone_forgotten_once() {
    let mut now = Instant::now();
    let mut scanner = Scanner::default();
    let unreadable: Listing = [(Arc::from(NAME), Sighting::Unreadable("no".to_owned()))].into();
    scanner.observe(&unreadable, now);
    now += SETTLE_NEW;
    assert_eq!(scanner.observe(&unreadable, now).actions, [Action::Report(NAME.into(), "no".to_owned())]);
    assert_eq!(scanner.observe(&unreadable, now).actions, []);
    scanner.observe(&Listing::new(), now);
    now += SETTLE_NEW;
    assert_eq!(scanner.observe(&Listing::new(), now).actions, [Action::Forget(NAME.into())]);
    assert_eq!(scanner.observe(&Listing::new(), now), Default::default());
}
