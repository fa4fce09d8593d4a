//! What set-up makes is kept outside the source tree, one folder per tool and version, whole or not there at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workspace::setting;

/// Changes when the layout of the cache does.
const LAYOUT: &str = "v1";

/// The folder of prepared tools: `$SOTTO_CACHE`, or `sotto` in `$XDG_CACHE_HOME`, or `~/.cache/sotto`.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Finds and creates the folder.
    pub(crate) fn open() -> Result<Self> {
        let base = setting("SOTTO_CACHE")
            .map(PathBuf::from)
            .or_else(|| setting("XDG_CACHE_HOME").map(|place| PathBuf::from(place).join("sotto")))
            .or_else(|| setting("HOME").map(|home| PathBuf::from(home).join(".cache/sotto")))
            .context("there is no place for the cache: set SOTTO_CACHE, XDG_CACHE_HOME or HOME")?;
        Self::at(&base)
    }

    fn at(base: &Path) -> Result<Self> {
        let dir = std::path::absolute(base)?.join(LAYOUT);
        fs::create_dir_all(&dir).with_context(|| {
            format!("cannot create the cache {}: set SOTTO_CACHE to a place you may write", dir.display())
        })?;
        Ok(Self { dir })
    }

    /// The folder called `name`, made by `make` unless one that is `ready` lies there. Concurrent runs make it once; a
    /// run that dies leaves nothing that a later one would take for whole.
    pub(crate) fn entry(
        &self,
        name: &str,
        ready: impl Fn(&Path) -> bool,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let place = self.dir.join(name);
        if ready(&place) {
            return Ok(place);
        }
        let _lock = self.lock(name)?;
        if ready(&place) {
            return Ok(place);
        }
        let unfinished = self.dir.join(format!(".{name}.unfinished"));
        for leftover in [&unfinished, &place] {
            if leftover.exists() {
                fs::remove_dir_all(leftover).with_context(|| format!("cannot remove {}", leftover.display()))?;
            }
        }
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        make(&unfinished)?;
        ensure!(ready(&unfinished), "{} was made but does not work", unfinished.display());
        fs::rename(&unfinished, &place).with_context(|| format!("cannot move {name} into place"))?;
        Ok(place)
    }

    /// A folder that is filled bit by bit, where each bit is whole or not there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let place = self.place(name);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        Ok(place)
    }

    /// Where something of that name would lie.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Held until the returned file is dropped, also by a process that is killed.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            println!("another run prepares {name}: waiting for it …");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use anyhow::bail;

    use super::*;

    fn ready(place: &Path) -> bool {
        place.join("tool").is_file()
    }

    #[test]
    fn an_entry_is_made_once_by_concurrent_runs() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::at(base.path()).unwrap();
        let made = AtomicUsize::new(0);
        let make = |place: &Path| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(fs::write(place.join("tool"), "x")?)
        };
        let places: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| cache.entry("linker-1", ready, make))).collect();
            runs.into_iter().map(|run| run.join().unwrap().unwrap()).collect()
        });
        assert!(places.iter().all(|place| ready(place)));
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_attempt_leaves_nothing_that_looks_whole() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::at(base.path()).unwrap();
        let half = |place: &Path| {
            fs::write(place.join("part"), "x")?;
            bail!("no network")
        };
        assert!(cache.entry("linker-1", ready, half).is_err());
        assert!(!base.path().join(LAYOUT).join("linker-1").exists());

        let place = cache.entry("linker-1", ready, |place| Ok(fs::write(place.join("tool"), "x")?)).unwrap();
        assert!(!place.join("part").exists());
    }

    #[test]
    fn an_entry_that_no_longer_works_is_made_again() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::at(base.path()).unwrap();
        fs::create_dir_all(base.path().join(LAYOUT).join("linker-1")).unwrap();
        assert!(ready(&cache.entry("linker-1", ready, |place| Ok(fs::write(place.join("tool"), "x")?)).unwrap()));
    }

    #[test]
    fn what_is_made_but_not_ready_is_an_error() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::at(base.path()).unwrap();
        assert!(cache.entry("linker-1", ready, |_| Ok(())).is_err());
    }
}
