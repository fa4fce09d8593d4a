//! Everything that a cluster writes on the machine lies in one folder.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Marks a folder as a cluster's: `down` removes no other.
const MARK: &str = ".sotto-cluster";
/// What the cluster was made as.
const SETTINGS: &str = "cluster.json";
/// Parts of the state folder.
const FOLDERS: [&str; 5] = ["etcd", "log", "nodes", "pki", "run"];

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct State {
    dir: PathBuf,
}

/// What a cluster was made as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Nodes; none of an API server alone.
    pub(super) nodes: u8,
    /// Ports of 127.0.0.1: API server, etcd's two, controller manager, scheduler.
    pub(super) ports: Vec<u16>,
}

impl State {
    /// Makes the folder where it is missing. One with other things in it is refused: it will be removed as a whole.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let state = Self::at(dir)?;
        let cannot = || format!("cannot use {} for a cluster", state.dir.display());
        fs::create_dir_all(&state.dir).with_context(cannot)?;
        if !state.dir.join(MARK).exists() {
            let empty = fs::read_dir(&state.dir).with_context(cannot)?.next().is_none();
            ensure!(empty, "{} is neither empty nor a cluster's folder: name another", state.dir.display());
            fs::write(state.dir.join(MARK), "").with_context(cannot)?;
        }
        for folder in FOLDERS {
            let place = state.dir.join(folder);
            fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        }
        // Keys lie in it.
        fs::set_permissions(&state.dir, Permissions::from_mode(0o700))?;
        Ok(state)
    }

    /// A folder that may not be there.
    pub(crate) fn at(dir: &Path) -> Result<Self> {
        Ok(Self { dir: std::path::absolute(dir)? })
    }

    /// Where it lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The administrator's way into the cluster.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.pki("admin.conf")
    }

    /// The output of a process.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// What is written down about a process.
    pub(super) fn record(&self, name: &str) -> PathBuf {
        self.records().join(format!("{name}.json"))
    }

    /// Where that is.
    pub(super) fn records(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A key, a certificate or a kubeconfig.
    pub(super) fn pki(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(name)
    }

    /// What a node writes.
    pub(super) fn node(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name)
    }

    /// Held while the cluster is changed.
    pub(super) fn lock(&self) -> Result<File> {
        let file = File::create(self.dir.join("lock"))?;
        ensure!(
            file.try_lock().is_ok(),
            "another command is changing the cluster in {}: wait for its end",
            self.dir.display()
        );
        Ok(file)
    }

    /// What the cluster was made as, if there is one.
    pub(super) fn settings(&self) -> Option<Settings> {
        let settings: Value = serde_json::from_str(&fs::read_to_string(self.dir.join(SETTINGS)).ok()?).ok()?;
        let ports = settings["ports"].as_array()?.iter();
        Some(Settings {
            nodes: u8::try_from(settings["nodes"].as_u64()?).ok()?,
            ports: ports.map(|port| u16::try_from(port.as_u64()?).ok()).collect::<Option<_>>()?,
        })
    }

    /// Writes it down.
    pub(super) fn keep(&self, settings: &Settings) -> Result<()> {
        let text = json!({"nodes": settings.nodes, "ports": settings.ports}).to_string();
        Ok(fs::write(self.dir.join(SETTINGS), text)?)
    }

    /// Removes the folder, if it is a cluster's.
    pub(super) fn remove(&self) -> Result<()> {
        ensure!(
            self.dir.join(MARK).exists(),
            "{} is no cluster's folder: nothing in it was removed",
            self.dir.display()
        );
        fs::remove_dir_all(&self.dir).with_context(|| format!("cannot remove {}", self.dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_elses_folder_is_neither_used_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis"), "").unwrap();
        assert!(State::open(dir.path()).unwrap_err().to_string().contains("neither empty"));
        assert!(State::at(dir.path()).unwrap().remove().is_err() && dir.path().join("thesis").exists());
    }

    #[test]
    fn settings_are_kept_until_the_folder_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("cluster")).unwrap();
        assert_eq!(state.settings(), None);
        let settings = Settings { nodes: 2, ports: vec![1, 2, 65_535] };
        state.keep(&settings).unwrap();
        assert_eq!(state.settings(), Some(settings));
        state.remove().unwrap();
        assert!(!state.dir().exists());
    }

    #[test]
    fn one_command_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let held = state.lock().unwrap();
        assert!(state.lock().unwrap_err().to_string().contains("wait"));
        drop(held);
        state.lock().unwrap();
    }
}
