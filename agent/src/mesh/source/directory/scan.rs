//! Which files are worth reading: a pure function of what the directory looked like and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a file must hold still before it is read for the first time.
pub const SETTLE_NEW: Duration = Duration::from_millis(80);

/// How long it must hold still before a new version replaces one that serves, or before its absence counts: here a
/// half-written file or an editor between two renames would take pods out of the mesh.
pub const SETTLE_CHANGED: Duration = Duration::from_millis(200);

/// How long a file may keep changing before that is worth a report.
pub const RESTLESS: Duration = Duration::from_secs(5);

/// Tells one version of a file from another, without reading it. The change time is the kernel's own: unlike the
/// modification time no tool can set it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The device that the file is on.
    pub device: u64,
    /// The file on the device; differs after a rename over it.
    pub inode: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its modification time: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Its status change time: seconds and nanoseconds.
    pub changed: (i64, i64),
}

/// What a name in the directory stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A file.
    File(Fingerprint),
    /// Something that cannot be read, and why.
    Unreadable(String),
}

/// The manifests in a directory, by name.
pub type Listing = BTreeMap<Arc<str>, Sighting>;

/// What has to be done about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read this version, then call [`Scanner::taken`].
    Read(Arc<str>, Fingerprint),
    /// It is there but cannot be read, or not yet.
    Report(Arc<str>, String),
    /// It has gone.
    Forget(Arc<str>),
}

/// The outcome of one look at the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// What has to be done now.
    pub actions: Vec<Action>,
    /// When to look again even if nothing moves: something is about to settle.
    pub look_again: Option<Duration>,
}

/// What is known of each file.
#[derive(Debug, Default)]
pub struct Scanner {
    files: BTreeMap<Arc<str>, Tracked>,
}

#[derive(Debug)]
struct Tracked {
    /// What was seen last; none if the name was missing.
    seen: Option<Sighting>,
    /// When it was seen so for the first time.
    since: Instant,
    /// Since when there is something new that has not settled.
    restless_since: Option<Instant>,
    /// The version that was read.
    taken: Option<Fingerprint>,
    /// Whether a report has been asked for since something was done about the file.
    reported: bool,
}

impl Scanner {
    /// Takes a look at the directory, as it is at `now`.
    pub fn observe(&mut self, listing: &Listing, now: Instant) -> Scan {
        for (name, sighting) in listing {
            let tracked = self.files.entry(Arc::clone(name)).or_insert_with(|| Tracked::new(now));
            tracked.see(Some(sighting), now);
        }
        let mut scan = Scan::default();
        for (name, tracked) in &mut self.files {
            if !listing.contains_key(name) {
                tracked.see(None, now);
            }
            tracked.settle(name, now, &mut scan);
        }
        self.files.retain(|_, tracked| !tracked.is_gone(now));
        scan
    }

    /// Remembers that a version was read, so that it is not read again.
    pub fn taken(&mut self, name: &str, version: Fingerprint) {
        if let Some(tracked) = self.files.get_mut(name) {
            tracked.taken = Some(version);
            tracked.reported = false;
        }
    }

    /// Takes the file system's word for how long each file has held still: at the first look, where nothing was seen
    /// before and waiting would only delay the start.
    pub fn trust_ages(&mut self, ages: &BTreeMap<Arc<str>, Duration>, now: Instant) {
        for (name, age) in ages {
            if let (Some(tracked), Some(since)) = (self.files.get_mut(name), now.checked_sub(*age)) {
                tracked.since = tracked.since.min(since);
            }
        }
    }

    /// Whether no file is waiting to settle or to be read, except for those that were reported.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.files.values().all(|tracked| tracked.is_done() || tracked.reported)
    }
}

impl Tracked {
    fn new(now: Instant) -> Self {
        Self { seen: None, since: now, restless_since: None, taken: None, reported: false }
    }

    fn see(&mut self, sighting: Option<&Sighting>, now: Instant) {
        if self.seen.as_ref() != sighting {
            let was_file = matches!(self.seen, Some(Sighting::File(_)));
            self.seen = sighting.cloned();
            self.since = now;
            self.restless_since.get_or_insert(now);
            // A restless file is reported once, not once for each change.
            self.reported &= was_file && matches!(self.seen, Some(Sighting::File(_)));
        }
    }

    fn settle(&mut self, name: &Arc<str>, now: Instant, scan: &mut Scan) {
        if self.is_done() {
            self.restless_since = None;
            return;
        }
        let still_for = now.saturating_duration_since(self.since);
        if still_for < self.patience() {
            let wait = self.patience() - still_for;
            scan.look_again = Some(scan.look_again.map_or(wait, |other| other.min(wait)));
            let restless_for = self.restless_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            if restless_for >= RESTLESS && !self.reported {
                self.reported = true;
                let why =
                    "keeps changing; it is read once it holds still for a moment (rename a finished file over it)";
                scan.actions.push(Action::Report(Arc::clone(name), why.to_owned()));
            }
            return;
        }
        scan.actions.push(match &self.seen {
            Some(Sighting::File(version)) => Action::Read(Arc::clone(name), *version),
            Some(Sighting::Unreadable(why)) => {
                self.reported = true;
                Action::Report(Arc::clone(name), why.clone())
            }
            None => Action::Forget(Arc::clone(name)),
        });
    }

    fn is_done(&self) -> bool {
        match &self.seen {
            Some(Sighting::File(version)) => self.taken == Some(*version),
            Some(Sighting::Unreadable(_)) => self.reported,
            None => false,
        }
    }

    fn is_gone(&self, now: Instant) -> bool {
        self.seen.is_none() && now.saturating_duration_since(self.since) >= self.patience()
    }

    fn patience(&self) -> Duration {
        if self.taken.is_some() { SETTLE_CHANGED } else { SETTLE_NEW }
    }
}
