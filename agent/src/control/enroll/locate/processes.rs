//! The pod's own processes, found by its UID in the names of their cgroups.
//!
//! The first process of every container counts, the sandbox's included; what an application does with namespaces later does not.
//! All of them have to be in one network namespace. A process is held open while it is looked at and asked for its cgroups again
//! at the end, so that a process number that is used anew never gives one pod the namespace of another.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
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
        let mut found: Option<(u32, OwnedFd, NetnsId)> = None;
        for &pid in firsts.values() {
            let Some((namespace, id)) = self.look(uid, pid) else { continue };
            match &found {
                None => found = Some((pid, namespace, id)),
                Some((_, _, first)) if *first == id => {}
                Some((first, ..)) => {
                    let paths = format!("{}, {}", self.path(*first).display(), self.path(pid).display());
                    return Err(LocateError::Ambiguous(paths));
                }
            }
        }
        let (pid, namespace, _) = found.ok_or(LocateError::Unsteady)?;
        let path = self.path(pid);
        match Netns::from_fd(namespace) {
            Ok(netns) => Ok(Located { netns, path }),
            Err(source) => Err(LocateError::Path { path, source }),
        }
    }

    /// The namespace of one process, if it is a process of this pod and was when the namespace was opened.
    fn look(&self, uid: &str, pid: u32) -> Option<(OwnedFd, NetnsId)> {
        let process = Process::open(&self.proc, pid).ok()?;
        let namespace = process.netns().ok()?;
        // A process that has ended by now has no cgroups to tell; one that moves between pods is no witness.
        place(&process.cgroups().ok()?).filter(|place| place.uid == uid)?;
        Some(namespace)
    }

    fn path(&self, pid: u32) -> PathBuf {
        self.proc.join(pid.to_string()).join("ns/net")
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
        let mut known = self.pods.get(sought.uid).into_iter().flat_map(BTreeMap::values);
        if known.any(|&pid| self.look(sought.uid, pid).is_some_and(|(_, id)| netns.is_file(id))) {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const UID: &str = "0f4bd1f2-6f1c-4f3a-9a3e-5a7f8f9b1c2d";

    /// A directory that looks like /proc, whose processes are in namespaces that are plain files.
    struct Proc(TempDir);

    impl Proc {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn process(&self, pid: u32, started: u64, cgroup: &str, netns: &str) -> &Self {
            let directory = self.0.path().join(pid.to_string());
            let _made_anew = fs::remove_dir_all(&directory);
            fs::create_dir_all(directory.join("ns")).unwrap();
            let file = self.0.path().join(format!("netns-{netns}"));
            fs::write(&file, "").unwrap();
            symlink(file, directory.join("ns/net")).unwrap();
            fs::write(directory.join("cgroup"), format!("0::{}\n", cgroup.replace("UID", UID))).unwrap();
            let zeros = "0 ".repeat(18);
            fs::write(directory.join("stat"), format!("{pid} (a ) b) S {zeros}{started} 0\n")).unwrap();
            self
        }

        fn firsts(&self) -> Vec<u32> {
            scan(self.0.path()).unwrap().remove(UID).unwrap_or_default().into_values().collect()
        }

        fn look(&self, pid: u32) -> bool {
            ByProcesses::new(self.0.path().to_owned()).look(UID, pid).is_some()
        }

        fn error(&self) -> String {
            let mut finder = ByProcesses::new(self.0.path().to_owned());
            finder.open(Sought { uid: UID, path: None }).unwrap_err().to_string()
        }
    }

    #[test]
    fn the_first_process_of_each_container_counts() {
        let proc = Proc::new();
        proc.process(40, 5, "/kubepods/besteffort/podUID/c1", "a")
            .process(30, 9, "/kubepods/besteffort/podUID/c1", "own")
            .process(50, 7, "/kubepods/besteffort/podUID/c1/nested", "own")
            .process(20, 6, "/kubepods/besteffort/podUID/c2", "a")
            .process(10, 1, "/kubepods/besteffort/podother/c1", "b")
            .process(1, 0, "/init.scope", "host");
        fs::create_dir(proc.0.path().join("sys")).unwrap();
        assert_eq!(proc.firsts(), [40, 20]);
    }

    #[test]
    fn containers_in_different_namespaces_are_not_trusted() {
        let proc = Proc::new();
        proc.process(40, 5, "/kubepods/podUID/c1", "a").process(20, 6, "/kubepods/podUID/c2", "b");
        let said = proc.error();
        assert!(said.contains("different network namespaces") && said.contains("/40/ns/net"), "{said}");
    }

    #[test]
    fn a_number_that_has_come_to_mean_another_pods_process_is_refused() {
        let proc = Proc::new();
        proc.process(40, 5, "/kubepods/podUID/c1", "a");
        assert!(proc.look(40));
        proc.process(40, 8, "/kubepods/podother/c1", "b");
        assert!(!proc.look(40) && !proc.look(41));
        assert!(proc.error().contains("no process of the pod"));
    }
}
