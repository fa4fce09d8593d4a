//! The agent of a node: the real program, in its node's namespace.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::access_log::{self, AccessEntry};
use super::http;
use super::metrics::Metrics;
use crate::manifests::Service;
use crate::node::Node;
use crate::pod::Pod;
use crate::process::Process;
use crate::wait::{DEADLINE, eventually};

/// Where an agent serves its admin pages, in its node's namespace.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// How long an agent may take until it is ready: it compiles programs in the kernel and makes a certificate authority.
const READY: Duration = Duration::from_secs(20);

/// An agent that is about to be.
#[derive(Debug)]
#[must_use = "nothing happens before start()"]
pub struct AgentBuilder {
    node: Node,
    ca_directory: Option<PathBuf>,
    /// How to reach the API server; none for the directory of manifests.
    kubeconfig: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
}

/// A running agent.
#[derive(Clone, Debug)]
pub struct Agent(Arc<State>);

#[derive(Debug)]
struct State {
    node: Node,
    process: Arc<Process>,
    /// Whether the test has ended it.
    ended_by_test: AtomicBool,
}

impl AgentBuilder {
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            node: node.clone(),
            ca_directory: Some(node.shared.ca_directory()),
            kubeconfig: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            open_files: None,
        }
    }

    /// Takes another certificate authority than the mesh's.
    pub fn ca_directory(mut self, directory: &Path) -> Self {
        self.ca_directory = Some(directory.to_owned());
        self
    }

    /// Has a certificate authority that does not answer.
    pub fn without_authority(mut self) -> Self {
        self.ca_directory = None;
        self
    }

    /// Takes its objects from an API server.
    pub fn on_cluster(mut self, kubeconfig: &Path) -> Self {
        self.kubeconfig = Some(kubeconfig.to_owned());
        self
    }

    /// Adds an argument with a value (`--cert-lifetime 4s`).
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.into(), value.into()]);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Limits how many files it may have open; it cannot raise that itself.
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Starts the agent and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Agent {
        let agent = self.spawn();
        agent.wait_ready();
        agent
    }

    /// Starts the agent without waiting.
    #[track_caller]
    pub fn spawn(self) -> Agent {
        let Self { node, ca_directory, kubeconfig, arguments, environment, open_files } = self;
        let shared = Arc::clone(&node.shared);
        let mut command = match open_files {
            None => Command::new(binary()),
            Some(limit) => {
                // It becomes the agent: the process id stays.
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={limit}:{limit}")).arg(binary());
                command
            }
        };
        match kubeconfig {
            None => command.arg("standalone").arg("--manifests").arg(shared.manifests.directory()),
            Some(path) => command.arg("node").arg("--kubeconfig").arg(path),
        };
        command.arg("--node").arg(node.name());
        match ca_directory {
            Some(directory) => command.arg("--ca-dir").arg(directory),
            // Port 9 of loopback: nobody listens there.
            None => command.args(["--ca-address", "127.0.0.1:9", "--ca-root", "/dev/null", "--ca-token", "/dev/null"]),
        };
        command.arg("--admin-addr").arg(ADMIN.to_string());
        command.args(arguments).env("NO_COLOR", "1").envs(environment);
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let log = shared.path(&format!("agent-{node}-{}.log", STARTED.fetch_add(1, Ordering::Relaxed)));
        let process = shared.start(&format!("the agent of {node}"), node.netns(), &mut command, &log);
        let agent = Agent(Arc::new(State { node, process, ended_by_test: AtomicBool::new(false) }));
        shared.add_agent(&agent);
        agent
    }
}

impl Agent {
    /// The name of its node in the test.
    #[must_use]
    pub fn node(&self) -> String {
        self.0.node.to_string()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.process.pid()
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.process.is_running()
    }

    /// Waits until `/healthz/ready` answers 200.
    #[track_caller]
    pub fn wait_ready(&self) {
        eventually(READY, &format!("the agent of {} is ready", self.node()), || {
            assert!(self.is_running(), "the agent of {} ended:\n{}", self.node(), self.log());
            matches!(self.try_get("/healthz/ready"), Ok((200, _))).then_some(())
        });
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.process.log()
    }

    /// Waits for a line in the log.
    #[track_caller]
    pub fn wait_log(&self, what: &str, predicate: impl Fn(&str) -> bool) -> String {
        eventually(DEADLINE, &format!("the agent of {} logs {what}", self.node()), || {
            self.log().lines().find(|line| predicate(line)).map(str::to_owned)
        })
    }

    /// The connections in its access log so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<AccessEntry> {
        access_log::parse(&self.log())
    }

    /// Waits for a connection in the access log.
    #[track_caller]
    pub fn wait_access(&self, what: &str, predicate: impl Fn(&AccessEntry) -> bool) -> AccessEntry {
        eventually(DEADLINE, &format!("the agent of {} logs the connection {what}", self.node()), || {
            self.access_log().into_iter().find(&predicate)
        })
    }

    /// Its metrics.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics"))
    }

    /// `/config_dump`
    #[track_caller]
    #[must_use]
    pub fn config_dump(&self) -> Value {
        let text = self.get("/config_dump");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("/config_dump is not JSON: {error}: {text}"))
    }

    /// What it says of a pod: `Some(true)` when the pod belongs to the mesh and, on this agent's own node, its traffic is
    /// carried; `Some(false)` when neither; `None` in between, and while it does not know the pod or does not answer.
    #[must_use]
    pub fn enrolled(&self, pod: &Pod) -> Option<bool> {
        let (200, text) = self.try_get("/config_dump").ok()? else { return None };
        let dump: Value = serde_json::from_str(&text).ok()?;
        let entry = |list: &str| {
            let mut entries = dump[list].as_array().into_iter().flatten();
            entries.find(|p| p["name"] == *pod.name() && p["namespace"] == *pod.namespace())
        };
        // `workloads` is the mesh as the agent knows it, `pods` what it carries itself.
        let belongs = entry("workloads")?["enrolled"].as_bool()?;
        let carried = entry("pods").is_some_and(|p| p["enrolled"] == true);
        let here = pod.node() == self.0.node.name();
        (!here || belongs == carried).then_some(belongs)
    }

    /// Waits until it knows a service.
    #[track_caller]
    pub fn wait_service(&self, service: &Service) {
        eventually(DEADLINE, &format!("the agent of {} knows the service {service}", self.node()), || {
            let (200, text) = self.try_get("/config_dump").ok()? else { return None };
            let dump: Value = serde_json::from_str(&text).ok()?;
            let (name, namespace) = (service.name(), service.namespace());
            let mut services = dump["services"].as_array()?.iter();
            services.any(|s| s["name"] == *name && s["namespace"] == *namespace).then_some(())
        });
    }

    /// Runs a subcommand of the same program on the agent's node, as an operator does.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).env("NO_COLOR", "1");
        let output = self.0.node.netns().run(|| command.output());
        output.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// An admin page.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        match self.try_get(path) {
            Ok((200, body)) => body,
            other => panic!("the agent of {} answers {path} with {other:?}\n{}", self.node(), self.log()),
        }
    }

    /// Ends it as an operator does (SIGTERM).
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        self.0.ended_by_test.store(true, Ordering::SeqCst);
        self.0.process.terminate(DEADLINE)
    }

    /// Ends it as a crash does (SIGKILL).
    pub fn kill(&self) {
        self.0.ended_by_test.store(true, Ordering::SeqCst);
        self.0.process.kill();
    }

    /// Where this node's agent pins what the kernel keeps for it.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/sotto").join(self.0.node.name())
    }

    /// The number of pods that the kernel keeps programs for.
    #[must_use]
    pub fn pinned_pods(&self) -> usize {
        let count = |directory: &Path| std::fs::read_dir(directory).map_or(0, |entries| entries.flatten().count());
        // One directory per layout of the maps; an agent leaves no other behind.
        let layouts = std::fs::read_dir(self.pins()).into_iter().flatten().flatten();
        layouts.map(|layout| count(&layout.path().join("pods"))).sum()
    }

    /// What speaks against this agent at the end of a test.
    pub(crate) fn complaint(&self) -> Option<String> {
        if !self.0.ended_by_test.load(Ordering::SeqCst) && !self.is_running() {
            return Some(format!("the agent of {} ended by itself:\n{}", self.node(), self.log()));
        }
        let log = self.log();
        let panic = log.lines().find(|line| line.contains("panicked at"))?;
        Some(format!("the agent of {} has panicked: {panic}", self.node()))
    }

    /// Ends agents together: asks first, kills what has not ended by the deadline.
    pub(crate) fn end_all(agents: &[Self], deadline: Duration) {
        for agent in agents {
            agent.0.process.signal(Signal::SIGTERM);
        }
        let end = Instant::now() + deadline;
        for agent in agents {
            while agent.is_running() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            agent.0.process.kill();
        }
    }

    /// An admin page, whatever its status; with the status.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn try_get(&self, path: &str) -> io::Result<(u16, String)> {
        http::get(self.0.node.netns(), ADMIN, path)
    }
}

/// `SOTTO_BIN`, or the agent that was built beside this program.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SOTTO_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a process knows its program");
    // target/debug/demo, or target/debug/deps/netns-0123.
    let directories = own.ancestors().skip(1).take(2);
    let siblings = own.ancestors().skip(2).take(2).flat_map(|target| ["debug", "release"].map(|p| target.join(p)));
    let mut candidates = directories.map(Path::to_path_buf).chain(siblings).map(|directory| directory.join("sotto"));
    let found = candidates.find(|path| path.is_file());
    found.expect("the agent is not built: run `cargo build -p sotto`, or set SOTTO_BIN")
}
