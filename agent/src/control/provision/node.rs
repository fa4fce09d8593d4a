//! The CNI plugin on the node's disk: its binary, and its place in the configuration that the container runtime reads.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::model::cni::chain::{self, ChainError, PLUGIN};

/// The most that is read of a configuration, in bytes.
const LONGEST_CONFIG: u64 = 1024 * 1024;

/// What a configuration of a single plugin is called while a list of ours serves in its place: no name that runtimes read.
const SET_ASIDE: &str = "sotto-set-aside";

/// Where the plugin goes, and what it is told.
#[derive(Clone, Debug)]
pub struct Node {
    /// The directory of configurations, as the agent sees it (`/etc/cni/net.d` of the node).
    pub conf_dir: PathBuf,
    /// The directory of plugins, as the agent sees it (`/opt/cni/bin` of the node).
    pub bin_dir: PathBuf,
    /// The fields of the plugin's entry, without its type.
    pub entry: Map<String, Value>,
}

/// How a look at the chain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The plugin is in it, as it should be.
    InPlace(PathBuf),
    /// The plugin has just been put into it.
    Extended(PathBuf),
    /// No network plugin is configured (yet).
    NoneYet,
}

/// Why the node could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A file or directory cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The configuration cannot be extended.
    #[error("{path}: {source}")]
    Configuration {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: ChainError,
    },
}

impl Node {
    /// Puts the plugin's binary (a copy of `program`) where runtimes look for it. A binary that is there already is replaced at
    /// once, whoever runs it meanwhile.
    ///
    /// # Errors
    /// [`ProvisionError::File`]
    pub fn install(&self, program: &Path) -> Result<(), ProvisionError> {
        let target = self.bin_dir.join(PLUGIN);
        if same_content(program, &target) {
            return Ok(());
        }
        let bytes = fs::read(program).map_err(at(program))?;
        replace(&target, &bytes, 0o755).map_err(at(&target))
    }

    /// Puts the plugin at the end of the chain, if it is not there.
    ///
    /// # Errors
    /// [`ProvisionError`]; what is there is left as it is.
    pub fn extend(&self) -> Result<Chain, ProvisionError> {
        let names = self.names()?;
        let Some(name) = chain::first(names.iter().map(String::as_str)) else { return Ok(Chain::NoneYet) };
        let path = self.conf_dir.join(name);
        let text = read(&path)?;
        let wrong = |source| ProvisionError::Configuration { path: path.clone(), source };
        let Some(extended) = chain::extended(&text, &self.entry).map_err(wrong)? else {
            return Ok(Chain::InPlace(path));
        };
        let list = path.with_extension("conflist");
        replace(&list, extended.as_bytes(), mode(&path)).map_err(at(&list))?;
        if list != path {
            // It comes before the list in the order of names.
            let aside = set_aside(&path);
            fs::rename(&path, &aside).map_err(at(&aside))?;
        }
        Ok(Chain::Extended(list))
    }

    /// Takes the plugin out of all configurations and its binary away; what was set aside serves again.
    ///
    /// # Errors
    /// [`ProvisionError`], after everything has been tried.
    pub fn remove(&self) -> Result<(), ProvisionError> {
        let names = self.names()?;
        let mut outcome = Ok(());
        for name in &names {
            outcome = outcome.and(self.restore(name));
        }
        let binary = self.bin_dir.join(PLUGIN);
        match fs::remove_file(&binary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => outcome.and(Err(at(&binary)(error))),
            _ => outcome,
        }
    }

    fn restore(&self, name: &str) -> Result<(), ProvisionError> {
        let path = self.conf_dir.join(name);
        if let Some(original) = name.strip_suffix(SET_ASIDE).and_then(|name| name.strip_suffix('.')) {
            let original = self.conf_dir.join(original);
            fs::rename(&path, &original).map_err(at(&original))?;
            let list = original.with_extension("conflist");
            return fs::remove_file(&list).or_else(missing_is_fine).map_err(at(&list));
        }
        let is_ours_to_look_at = chain::first([name]).is_some();
        // What cannot be read as a configuration does not hold the plugin either.
        let Some(reduced) = is_ours_to_look_at.then(|| read(&path).ok()).flatten() else { return Ok(()) };
        match chain::reduced(&reduced) {
            Ok(Some(reduced)) => replace(&path, reduced.as_bytes(), mode(&path)).map_err(at(&path)),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// The names in the directory; what was set aside comes last, so that the list made of it is restored before.
    fn names(&self) -> Result<Vec<String>, ProvisionError> {
        let entries = match fs::read_dir(&self.conf_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(at(&self.conf_dir))?,
        };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_by_key(|name| (name.ends_with(SET_ASIDE), name.clone()));
        Ok(names)
    }
}

fn set_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(SET_ASIDE);
    name.into()
}

fn read(path: &Path) -> Result<String, ProvisionError> {
    let open = || -> io::Result<String> {
        let mut text = String::new();
        let read = fs::File::open(path)?.take(LONGEST_CONFIG + 1).read_to_string(&mut text)?;
        if read as u64 > LONGEST_CONFIG {
            return Err(io::Error::other(format!("has more than {LONGEST_CONFIG} bytes")));
        }
        Ok(text)
    };
    open().map_err(at(path))
}

/// Writes a file so that whoever reads it sees the old content or the new, and never half of it.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // No name that a runtime reads, should it stay behind.
    let temporary = directory.join(format!(".{PLUGIN}.{}", std::process::id()));
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _gone = fs::remove_file(&temporary);
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777)
}

fn same_content(one: &Path, other: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    length(one).is_some() && length(one) == length(other) && fs::read(one).ok() == fs::read(other).ok()
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ProvisionError {
    let path = path.to_owned();
    move |source| ProvisionError::File { path, source }
}
