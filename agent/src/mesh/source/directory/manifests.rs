//! The directory as a whole: from one look at it to the next, and to the state that is published.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;

use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::problem::{Effect, Problem};
use crate::mesh::source::report::report;
use crate::mesh::source::shared::Shared;
use crate::mesh::source::state::MeshState;
use crate::model::identity::TrustDomain;

use super::decode::decode;
use super::file::ManifestFile;
use super::list::{ListError, Look, Place, ReadError, list, read};
use super::merge::merge;
use super::scan::{Action, Fingerprint, SETTLE_NEW, Scanner};

/// How long the start waits for files that are being written.
const PATIENCE_AT_START: Duration = Duration::from_secs(2);

/// What the source has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of manifests.
    pub directory: PathBuf,
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Arc<str>,
}

/// Why the source cannot start.
#[derive(Debug, Error)]
#[error("manifests directory {}: {why}", directory.display())]
pub struct LoadError {
    /// The directory.
    pub directory: PathBuf,
    why: ListError,
}

/// What [`Manifests::step`] asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Whether there is a new state.
    pub(super) changed: bool,
    /// When to step again at the latest, if something is about to settle.
    pub(super) again: Option<Duration>,
    /// Which directory it was; none while there is none.
    pub(super) place: Option<Place>,
}

/// Everything known of a directory of manifests.
#[derive(Debug)]
pub struct Manifests {
    directory: PathBuf,
    rules: Rules,
    scanner: Scanner,
    files: BTreeMap<Arc<str>, ManifestFile>,
    /// What the objects of all files have in common.
    shared: Shared,
    /// Why the directory cannot be listed.
    trouble: Option<Problem>,
    state: Arc<MeshState>,
}

impl Manifests {
    /// Reads the directory. Blocks for file IO, and up to two seconds while files are being written.
    ///
    /// # Errors
    /// [`LoadError`] if the directory cannot be listed. Files that are wrong are no error here: they are in
    /// [`MeshState::problems`].
    pub fn load(config: Config) -> Result<Self, LoadError> {
        let Config { directory, trust_domain, root_namespace } = config;
        let rules = Rules { trust_domain, root_namespace, netns_annotation: true };
        let mut manifests = Self {
            directory,
            rules,
            scanner: Scanner::default(),
            files: BTreeMap::new(),
            shared: Shared::default(),
            trouble: None,
            state: Arc::default(),
        };
        let start = Instant::now();
        let look =
            list(&manifests.directory).map_err(|why| LoadError { directory: manifests.directory.clone(), why })?;
        manifests.scanner.observe(&look.listing, start);
        manifests.scanner.trust_ages(&look.ages, start);
        loop {
            let step = manifests.step(Instant::now());
            match step.again {
                Some(wait) if !manifests.state.loaded && start.elapsed() < PATIENCE_AT_START => {
                    std::thread::sleep(wait)
                }
                _ => return Ok(manifests),
            }
        }
    }

    /// The newest state.
    #[must_use]
    pub fn state(&self) -> Arc<MeshState> {
        Arc::clone(&self.state)
    }

    /// The directory that is read.
    pub(super) fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// Looks at the directory as it is, at `now`, and reads what has settled. Blocks for file IO.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let (mut again, mut place) = (None, None);
        let mut dirty = false;
        match list(&self.directory) {
            Err(error) => dirty |= self.trouble_is(Some(error.to_string())),
            Ok(look) => {
                dirty |= self.trouble_is(None);
                place = Some(look.place);
                again = self.read_settled(&look, now, &mut dirty);
            }
        }
        let changed = self.refresh(dirty);
        Step { changed, again, place }
    }

    /// Reads what has settled; gives when to look again. Sets `dirty` if anything was read or dropped.
    fn read_settled(&mut self, look: &Look, now: Instant, dirty: &mut bool) -> Option<Duration> {
        let scan = self.scanner.observe(&look.listing, now);
        let mut again = scan.look_again;
        for action in scan.actions {
            match action {
                Action::Forget(name) => *dirty |= self.files.remove(&name).is_some(),
                Action::Report(name, why) => {
                    self.file(&name).unreadable(&name, None, why);
                    *dirty = true;
                }
                Action::Read(name, version) => match self.read(&name, version) {
                    true => *dirty = true,
                    false => again = Some(again.map_or(SETTLE_NEW, |other| other.min(SETTLE_NEW))),
                },
            }
        }
        again
    }

    /// Reads one version of a file; false if it has to be tried again.
    fn read(&mut self, name: &Arc<str>, version: Fingerprint) -> bool {
        match read(&self.directory.join(&**name), version) {
            Ok(text) => {
                let mut decoded = decode(name, &text, &self.rules);
                decoded.slim(&mut self.shared);
                self.file(name).take(decoded);
            }
            Err(ReadError::Changed) => return false,
            Err(ReadError::Io(error)) if is_gone(&error) => return false,
            Err(error @ ReadError::NotText(line)) => self.file(name).unreadable(name, Some(line), error.to_string()),
            Err(error @ (ReadError::TooLarge | ReadError::Io(_))) => {
                self.file(name).unreadable(name, None, error.to_string());
            }
        }
        self.scanner.taken(name, version);
        true
    }

    fn file(&mut self, name: &Arc<str>) -> &mut ManifestFile {
        self.files.entry(Arc::clone(name)).or_default()
    }

    /// Sets or clears the trouble with the directory itself; whether that is news.
    fn trouble_is(&mut self, message: Option<String>) -> bool {
        let effect = Effect::LastGoodServes;
        let trouble = message.map(|message| Problem { message, effect, ..Problem::default() });
        let news = trouble != self.trouble;
        self.trouble = trouble;
        news
    }

    /// Makes a new state if there is anything new in it.
    fn refresh(&mut self, dirty: bool) -> bool {
        let loaded = self.state.loaded || self.scanner.is_settled();
        if !dirty && loaded == self.state.loaded {
            return false;
        }
        self.shared.forget_unused();
        let merged = merge(&self.files, &self.rules);
        let mut problems: Vec<Problem> = self.trouble.iter().cloned().collect();
        problems.extend(merged.problems);
        let same_view = merged.view == *self.state.view;
        if same_view && problems == self.state.problems && loaded == self.state.loaded {
            return false;
        }
        report(&self.state.problems, &problems);
        // The same view stays the same allocation, so that readers can tell by the pointer.
        let view = if same_view { Arc::clone(&self.state.view) } else { Arc::new(merged.view) };
        self.state = Arc::new(MeshState {
            view,
            problems,
            version: self.state.version + 1,
            loaded,
            made_at: Some(SystemTime::now()),
            ..MeshState::default()
        });
        true
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
