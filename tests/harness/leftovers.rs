//! What killed runs and killed agents leave behind, and its removal.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns;

/// Removes what runs that were killed have left: namespaces whose names carry the id of a process that is gone, with the
/// processes in them, and temporary directories.
pub(crate) fn sweep() {
    for name in netns::names("st").into_iter().filter(|name| is_orphan(name)) {
        for pid in netns::processes(&name) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        remove_pins(&name);
        netns::remove(&name);
    }
    crate::traffic::cgroup::sweep(is_orphan);
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_orphan) {
            remove_directory(&entry.path());
        }
    }
}

/// Whether a name begins as a mesh's id (`st<pid>x<number>-`) of a process that is gone.
fn is_orphan(name: &str) -> bool {
    let parts = name.strip_prefix("st").and_then(|rest| rest.split_once('-')).and_then(|(id, _)| id.split_once('x'));
    let Some((pid, number)) = parts else { return false };
    match (u32::from_str_radix(pid, 16), u32::from_str_radix(number, 16)) {
        (Ok(pid), Ok(_)) => !Path::new("/proc").join(pid.to_string()).exists(),
        _ => false,
    }
}

/// Removes what an agent that was killed has pinned for the node of that name.
pub(crate) fn remove_pins(node: &str) {
    let _ = fs::remove_dir_all(Path::new("/sys/fs/bpf/sotto").join(node));
}

/// Removes a directory into which another thread may still write.
pub(crate) fn remove_directory(path: &Path) {
    const ATTEMPTS: usize = 5;
    let _ = (0..ATTEMPTS).find(|_| fs::remove_dir_all(path).is_ok() && !path.exists());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_meshes_whose_process_is_gone_are_orphans() {
        let own = std::process::id();
        assert!(!is_orphan(&format!("st{own:x}x0-node")));
        // Above the highest process id that Linux gives out (2^22).
        assert!(is_orphan("st7fffffffx1-node"));
        for name in ["st7fffffffx1", "st7fffffffxg-a", "stale-file", "start-x", "kept-st7fffffffx1-a", "st-", ""] {
            assert!(!is_orphan(name), "{name}");
        }
    }
}
