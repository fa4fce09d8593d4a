//! One network namespace with a name, removed when it goes out of scope.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, setns};

/// Where `ip netns` mounts the namespaces that have names.
const DIRECTORY: &str = "/run/netns";

/// A network namespace of this mesh, mounted at `/run/netns/NAME`.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    pub(crate) fn create(name: &str) -> Self {
        command("ip", &["netns", "add", name]);
        let path = Path::new(DIRECTORY).join(name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        let netns = Self { name: name.to_owned(), file };
        // Duplicate address detection would keep IPv6 addresses unusable for seconds.
        netns.sysctl("net/ipv6/conf/all/accept_dad", "0");
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        netns.ip("link set lo up");
        netns
    }

    /// Its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `action` with the calling thread inside the namespace. Sockets made there stay in it, so only making them needs
    /// this; processes started there live in it.
    ///
    /// # Panics
    /// When the namespace cannot be entered or left.
    pub fn run<T>(&self, action: impl FnOnce() -> T) -> T {
        let home = File::open("/proc/thread-self/ns/net").expect("a thread can open its own namespace");
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|error| panic!("cannot enter namespace {}: {error}", self.name));
        let back = Return(home);
        let result = action();
        drop(back);
        result
    }

    /// Starts a process in the namespace. It keeps this machine's mounts: `ip netns exec` would hide cgroup2.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        self.run(|| command.spawn())
    }

    /// Runs lines of `ip` commands (`addr add …`) in the namespace.
    ///
    /// # Panics
    /// When one of them fails.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start ip: {error}"));
        let sent = child.stdin.take().map(|mut stdin| stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("ip can be waited for");
        assert!(
            matches!(sent, Some(Ok(()))) && output.status.success(),
            "ip failed in {}:\n{lines}\n{}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What a command prints that runs in the namespace.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[must_use]
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        self.run(|| command(program, arguments))
    }

    /// Sets a network sysctl (`net/ipv4/ip_forward`) of the namespace.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("cannot set {key}={value} in {}: {error}", self.name));
    }

    /// Reads a network sysctl of the namespace.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn read_sysctl(&self, key: &str) -> String {
        let path = Path::new("/proc/sys").join(key);
        let text = self.run(|| fs::read_to_string(&path));
        text.unwrap_or_else(|error| panic!("cannot read {key} in {}: {error}", self.name)).trim().to_owned()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes a namespace by name, if it is still there.
pub(crate) fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

/// The names of all namespaces of the machine that start with `prefix`.
pub(crate) fn names(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// The processes that live in a namespace.
pub(crate) fn processes(name: &str) -> Vec<i32> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[track_caller]
fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {} failed: {error}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Takes the thread home, also when the action panics.
struct Return(File);

impl Drop for Return {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            // A thread in the wrong namespace would make every later test lie.
            std::process::abort();
        }
    }
}
