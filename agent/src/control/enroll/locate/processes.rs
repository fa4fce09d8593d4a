//! The pod's own processes, found by its UID in the names of their cgroups.
//!
//! The first process of every container counts, the sandbox's included; what an application does with namespaces later does not.
//! All of them have to be in one network namespace. A process is held open while it is looked at and asked for its cgroups again
//! at the end, so that a process number that is used anew never gives one pod the namespace of another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup_path::place;
use super::proc::{NetnsId, Process};
use super::{Locate, LocateError, Located, Sought};
use crate::sys::netns::Netns;

/// Looking through all processes may take one part in so many of the time.
const SHARE: u32 = 20;

/// The least time between two looks through all processes.
const LEAST: Duration = Duration::from_millis(150);

/// The first process of each container of a pod, by container.
type Firsts = BTreeMap<String, u32>;

/// Finds pods by their processes.
#[derive(Debug)]
pub struct ByProcesses {
    proc: PathBuf,
    pods: BTreeMap<String, Firsts>,
    scanned: Option<Scan>,
}

/// When the processes were last looked through, and how long that took.
#[derive(Clone, Copy, Debug)]
struct Scan {
    at: Instant,
    took: Duration,
}

impl ByProcesses {
    /// `proc` is where the node's processes are: `/proc` for a process in the node's own pid namespace.
    #[must_use]
    pub fn new(proc: PathBuf) -> Self {
        Self { proc, pods: BTreeMap::new(), scanned: None }
    }

    /// Looks through all processes, unless that was done a moment ago.
    fn refresh(&mut self) -> Result<(), LocateError> {
        let recent = |scan: Scan| scan.at.elapsed() < LEAST.max(scan.took * SHARE);
        if self.scanned.is_some_and(recent) {
            return Ok(());
        }
        let begun = Instant::now();
        self.pods = scan(&self.proc)?;
        self.scanned = Some(Scan { at: Instant::now(), took: begun.elapsed() });
        Ok(())
    }

    /// The namespace in which all these processes are that still are the pod's.
    fn agreed(&self, uid: &str, firsts: &Firsts) -> Result<Located, LocateError> {
        let mut found: Option<(Located, NetnsId)> = None;
        for &pid in firsts.values() {
            let Some((located, id)) = self.look(uid, pid) else { continue };
            match &found {
                None => found = Some((located, id)),
                Some((_, first)) if *first == id => {}
                Some((first, _)) => {
                    let paths = format!("{}, {}", first.path.display(), located.path.display());
                    return Err(LocateError::Ambiguous(paths));
                }
            }
        }
        found.map(|(located, _)| located).ok_or(LocateError::Unsteady)
    }

    /// The namespace of one process, if it is a process of this pod and was when the namespace was opened.
    fn look(&self, uid: &str, pid: u32) -> Option<(Located, NetnsId)> {
        let process = Process::open(&self.proc, pid).ok()?;
        let (namespace, id) = process.netns().ok()?;
        // A process that has ended by now has no cgroups to tell; one that moves between pods is no witness.
        place(&process.cgroups().ok()?).filter(|place| place.uid == uid)?;
        let path = self.proc.join(pid.to_string()).join("ns/net");
        let netns = Netns::from_fd(namespace).ok()?;
        Some((Located { netns, path }, id))
    }
}

impl Locate for ByProcesses {
    fn can_find(&self, _: Sought<'_>) -> bool {
        true
    }

    fn open(&mut self, sought: Sought<'_>) -> Result<Located, LocateError> {
        self.refresh()?;
        let Some(firsts) = self.pods.get(sought.uid) else {
            return Err(LocateError::NoProcess { proc: self.proc.clone() });
        };
        let result = self.agreed(sought.uid, firsts);
        if result.is_err() {
            // What was seen is no longer so, or is not what is wanted: the next look is a fresh one.
            self.pods.remove(sought.uid);
        }
        result
    }

    fn has_moved(&mut self, sought: Sought<'_>, netns: &Netns) -> bool {
        let known = self.pods.get(sought.uid).cloned().unwrap_or_default();
        let stays = |(located, _): (Located, NetnsId)| located.netns.cookie() == netns.cookie();
        if known.values().any(|&pid| self.look(sought.uid, pid).is_some_and(stays)) {
            return false;
        }
        // Nothing that was known of it is there any more: it has ended, or its sandbox is another one.
        match self.open(sought) {
            Ok(located) => located.netns.cookie() != netns.cookie(),
            Err(_) => false,
        }
    }
}

/// The first process of every container of every pod.
fn scan(proc: &Path) -> Result<BTreeMap<String, Firsts>, LocateError> {
    let failed = |source| LocateError::Proc { proc: proc.to_owned(), source };
    let mut oldest: BTreeMap<String, BTreeMap<String, (u64, u32)>> = BTreeMap::new();
    for entry in fs::read_dir(proc).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(process) = Process::open(proc, pid) else { continue };
        let Some(place) = process.cgroups().ok().and_then(|cgroups| place(&cgroups)) else { continue };
        let Ok(started) = process.started() else { continue };
        let first = oldest.entry(place.uid).or_default().entry(place.container).or_insert((started, pid));
        *first = (*first).min((started, pid));
    }
    let firsts =
        |containers: BTreeMap<_, (u64, u32)>| containers.into_iter().map(|(name, (_, pid))| (name, pid)).collect();
    Ok(oldest.into_iter().map(|(uid, containers)| (uid, firsts(containers))).collect())
}
