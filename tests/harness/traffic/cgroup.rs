//! A cgroup of its own, and processes in it: for what the kernel tells apart by cgroup.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::site::Site;
use crate::mesh::Mesh;

/// How long one exchange may take, in seconds.
const PATIENCE: &str = "5";

/// Enters the cgroup, connects, sends, and prints as many bytes as it is told to wait for.
const DIAL: &str = r#"
echo $$ > "$1/cgroup.procs" || exit 3
exec 3<>"/dev/tcp/$2/$3" || exit 1
printf %b "$4" >&3 || exit 1
[ "$5" -eq 0 ] && exit 0
LC_ALL=C IFS= read -r -d '' -t "$6" -N "$5" answer <&3
printf %s "$answer"
[ -n "$answer" ]
"#;

/// A directory of the cgroup2 hierarchy. It is removed when this goes out of scope, with what is below it.
#[derive(Debug)]
pub struct Cgroup {
    root: PathBuf,
    name: String,
}

impl Mesh {
    /// Makes a cgroup of this mesh: `<mesh>-<name>` below the root of the hierarchy.
    ///
    /// # Panics
    /// When the machine has no cgroup2, or the kernel refuses.
    #[must_use]
    pub fn cgroup(&self, name: &str) -> Cgroup {
        let root = root().expect("the machine has a cgroup2 mount: agents need it");
        let cgroup = Cgroup { root, name: format!("{}-{name}", self.shared.id()) };
        cgroup.make(&cgroup.directory());
        cgroup
    }
}

impl Cgroup {
    /// Its path from the root of the hierarchy.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Makes a cgroup below this one, or takes the one that is there.
    #[must_use]
    pub fn below(&self, name: &str) -> PathBuf {
        let directory = self.directory().join(name);
        if !directory.exists() {
            self.make(&directory);
        }
        directory
    }

    /// Where it is mounted.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Removes it and makes it anew, as a restart of a systemd unit does.
    pub fn renew(&self) {
        let directory = self.directory();
        fs::remove_dir(&directory).unwrap_or_else(|error| panic!("cannot remove {}: {error}", directory.display()));
        self.make(&directory);
    }

    fn make(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Also what its processes have started: a server that is killed leaves its workers.
        let _ = fs::write(self.directory().join("cgroup.kill"), "1");
        // A process that has just been killed takes a moment to leave.
        const ATTEMPTS: usize = 50;
        let _ = (0..ATTEMPTS).find(|_| {
            let is_gone = remove(&self.directory());
            if !is_gone {
                thread::sleep(Duration::from_millis(10));
            }
            is_gone
        });
    }
}

/// Connects from a site with a process in a cgroup, sends `request` (with the escapes of printf), and returns what comes back, as
/// soon as `length` bytes have or the other side has closed. With a `length` of 0, closes at once.
///
/// # Errors
/// What the process said, when it could not connect or got nothing.
///
/// # Panics
/// When no process can be started.
pub fn dial_from(cgroup: &Path, site: &Site, to: SocketAddr, request: &str, length: usize) -> Result<String, String> {
    let (ip, port, length) = (to.ip().to_string(), to.port().to_string(), length.to_string());
    let mut command = Command::new("bash");
    command.args(["-c", DIAL, "dial"]).arg(cgroup).args([&ip, &port, request, &length, PATIENCE]);
    command.stdin(Stdio::null());
    let output = site.netns().run(|| command.output()).unwrap_or_else(|error| panic!("cannot start bash: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() != Some(3), "cannot enter {}: {said}", cgroup.display());
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(said) }
}

/// Removes cgroups of meshes that are gone. Whatever still lives in one keeps it.
pub(crate) fn sweep(is_orphan: impl Fn(&str) -> bool) {
    let Some(Ok(entries)) = root().map(fs::read_dir) else { return };
    let orphans = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is_orphan));
    for orphan in orphans {
        remove(&orphan.path());
    }
}

/// Removes a cgroup and those beneath it, and says whether it is gone: not while a process is in one of them.
fn remove(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        remove(&entry.path());
    }
    fs::remove_dir(directory).is_ok() || !directory.exists()
}

/// The first cgroup2 mount; the format is in proc_pid_mountinfo(5).
fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}
