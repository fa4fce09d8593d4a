//! Parts of the control plane, which a test may crash and bring back; and what its audit log says.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::wait::{DEADLINE, eventually};

/// The API server, which has crashed. It comes back when this goes.
#[derive(Debug)]
pub struct Crashed<'a> {
    cluster: &'a Cluster,
    record: Value,
}

impl Cluster {
    /// Kills the API server; what it stores stays.
    ///
    /// # Panics
    /// When it does not run as `cargo xtask cluster` started it.
    #[must_use]
    pub fn crash_api_server(&self) -> Crashed<'_> {
        let record = self.api_server();
        let pid = i32::try_from(record["pid"].as_i64().expect("a record has a pid")).expect("pids are small");
        assert_eq!(Some(started(pid)), record["started"].as_u64(), "the API server is another process now");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the API server runs");
        eventually(DEADLINE, "the API server has ended", || (!self.answers()).then_some(()));
        Crashed { cluster: self, record }
    }

    /// What sotto's service accounts have asked the API server for, one entry of the audit log each.
    ///
    /// # Panics
    /// When there is no such log.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let path = self.state().join("log/audit.log");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn api_server(&self) -> Value {
        let path = self.state().join("run/kube-apiserver.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("a record is JSON")
    }

    fn answers(&self) -> bool {
        self.kubectl().attempt(&["get", "--raw", "/readyz", "--request-timeout=5s"]).is_ok()
    }
}

impl Crashed<'_> {
    fn start(&mut self) {
        let words = self.record["argv"].as_array().expect("a record has the command line");
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        let log = self.record["log"].as_str().expect("a record names the log");
        let log = File::options().append(true).open(log).expect("the log is there");
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.cluster.state()).process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        #[expect(clippy::zombie_processes, reason = "it outlives this test; whoever takes the cluster down ends it")]
        let child = command.spawn().expect("the API server can be started");
        // Whoever takes the cluster down finds it.
        self.record["pid"] = json!(child.id());
        self.record["started"] = json!(started(child.id().cast_signed()));
        fs::write(self.cluster.state().join("run/kube-apiserver.json"), self.record.to_string()).expect("the record");
    }
}

impl Drop for Crashed<'_> {
    fn drop(&mut self) {
        self.start();
        let back = || self.cluster.answers().then_some(());
        if !std::thread::panicking() {
            eventually(DEADLINE * 6, "the API server is back", back);
        }
    }
}

/// When a process started (proc_pid_stat(5), field 22).
fn started(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or_default()
}
