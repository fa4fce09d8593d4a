//! A directory of manifests and a source that reads it, step by step.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::mesh::source::directory::manifests::{Config, Manifests};
use crate::mesh::source::directory::scan::SETTLE_CHANGED;
use crate::mesh::source::state::MeshState;
use crate::model::identity::TrustDomain;
use crate::model::workload::{ObjectName, Workload};

pub(super) struct Fixture {
    pub(super) manifests: Manifests,
    now: Instant,
    root: TempDir,
}

/// The manifest of an enrolled pod `demo/<name>`.
pub(super) fn pod(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: demo\n  labels:\n    \
         istio.io/dataplane-mode: ambient\nstatus:\n  podIP: {ip}\n"
    )
}

impl Fixture {
    /// A source over these files.
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let root = TempDir::new().unwrap();
        let directory = root.path().join("manifests");
        fs::create_dir(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        let manifests = Manifests::load(config(&directory)).unwrap();
        Self { manifests, now: Instant::now(), root }
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.root.path().join("manifests")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Writes in place, as an editor or `>` does.
    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes beside and renames over.
    pub(super) fn replace(&self, name: &str, text: &str) {
        let beside = self.path(&format!(".{name}.tmp"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    /// Turns the clock and takes a step; whether there is a new state.
    pub(super) fn after(&mut self, milliseconds: u64) -> bool {
        self.now += Duration::from_millis(milliseconds);
        self.manifests.step(self.now).changed
    }

    /// Lets everything settle that is there.
    pub(super) fn settle(&mut self) {
        self.after(0);
        self.now += SETTLE_CHANGED;
        self.after(0);
    }

    pub(super) fn state(&self) -> Arc<MeshState> {
        self.manifests.state()
    }

    pub(super) fn pod(&self, name: &str) -> Option<Arc<Workload>> {
        self.state().view.workload(&ObjectName::new("demo", name)).cloned()
    }

    /// The names of all pods, sorted.
    pub(super) fn pods(&self) -> Vec<String> {
        let mut names: Vec<String> = self.state().view.workloads().map(|w| w.pod.name.to_string()).collect();
        names.sort();
        names
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.state().problems.iter().map(ToString::to_string).collect()
    }
}

pub(super) fn config(directory: &Path) -> Config {
    Config {
        directory: directory.to_owned(),
        trust_domain: TrustDomain::default(),
        root_namespace: "istio-system".into(),
    }
}
