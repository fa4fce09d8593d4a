//! A mesh for one test: an underlay that nodes join, a directory of manifests, and its end.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use nix::unistd::Uid;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use crate::agent::Agent;
use crate::leftovers::{remove_directory, remove_pins, sweep};
use crate::manifests::{Manifests, ServiceBuilder};
use crate::netns::{self, Netns};
use crate::node::Node;
use crate::pod::Pod;
use crate::process::Process;
use crate::traffic::{External, Servers};
use crate::wait::{DEADLINE, eventually};
use crate::wire::Capture;

/// The label that enrols a namespace or a pod.
pub(crate) const MODE_LABEL: &str = "istio.io/dataplane-mode";

/// How long an agent may take to end when the mesh does.
const AGENT_END: Duration = Duration::from_secs(10);

/// An address on the underlay that nobody has: what is sent there crosses the bridge and does nothing.
const BEACON: ([u8; 4], u16) = ([10, 200, 0, 253], 9);

/// All meshes of this process, for [`clean_up_on_signals`].
static LIVE: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// Held while something is made that has to be removed. Whoever ends the process takes it and keeps it.
static MAKING: Mutex<()> = Mutex::new(());

/// A mesh made of network namespaces. Everything it made goes when it does.
#[derive(Debug)]
pub struct Mesh {
    pub(crate) shared: Arc<Shared>,
}

/// What the parts of a mesh share.
#[derive(Debug)]
pub(crate) struct Shared {
    id: String,
    directory: TempDir,
    pub(crate) manifests: Manifests,
    pub(crate) servers: Arc<Servers>,
    underlay: Mutex<Option<Arc<Netns>>>,
    /// Names of all namespaces made for this mesh.
    netns: Mutex<Vec<String>>,
    /// Everything that is joined to the underlay, for the routes between them.
    pub(crate) joined: Mutex<Vec<Joined>>,
    namespaces: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    agents: Mutex<Vec<Agent>>,
    processes: Mutex<Vec<Arc<Process>>>,
    counter: AtomicUsize,
    services: AtomicUsize,
}

/// A node or an external machine on the underlay.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) netns: Arc<Netns>,
    /// The node's number, which its pods' addresses carry; none for an external machine.
    pub(crate) node: Option<u8>,
}

/// A Kubernetes namespace, whose labels can be changed.
#[derive(Clone, Debug)]
pub struct NamespaceHandle {
    shared: Arc<Shared>,
    name: String,
}

impl Mesh {
    /// A mesh with nothing in it yet. `None`, with a line that starts with `skipped:`, where this machine does not allow one.
    #[must_use]
    pub fn new(test: &str) -> Option<Self> {
        if let Some(why) = obstacle() {
            // Straight to the descriptor: the test runner would keep a print from being seen.
            let _ = writeln!(std::io::stdout().lock(), "skipped: {test}: {why}");
            return None;
        }
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let id = format!("st{:x}x{:x}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let mut directory = tempfile::Builder::new();
        let keep = std::env::var_os("SOTTO_KEEP").is_some();
        let prefix = if keep { format!("kept-{id}-") } else { format!("{id}-") };
        let directory = directory.prefix(&prefix).disable_cleanup(keep).tempdir();
        let directory = directory.expect("a temporary directory can be made");
        let shared = Arc::new(Shared {
            manifests: Manifests::new(directory.path()),
            id,
            directory,
            servers: Arc::default(),
            underlay: Mutex::default(),
            netns: Mutex::default(),
            joined: Mutex::default(),
            namespaces: Mutex::default(),
            agents: Mutex::default(),
            processes: Mutex::default(),
            counter: AtomicUsize::new(0),
            services: AtomicUsize::new(0),
        });
        lock(&LIVE).push(Arc::downgrade(&shared));
        fs::create_dir(shared.ca_directory()).expect("a directory can be made in an empty one");
        // From here on Drop cleans up, whatever fails.
        let mesh = Self { shared };
        let underlay = mesh.shared.create_netns("underlay");
        underlay.ip("link add br0 address 02:00:00:00:00:fe type bridge stp_state 0 mcast_snooping 0\n\
                     link set br0 up\n\
                     addr add 10.200.0.254/24 dev br0\n\
                     addr add fd00:200::fe/64 dev br0 nodad\n\
                     neigh add 10.200.0.253 lladdr 02:00:00:00:00:fd dev br0");
        *lock(&mesh.shared.underlay) = Some(underlay);
        Some(mesh)
    }

    /// Adds a node.
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        Node::join(&self.shared, name)
    }

    /// Adds a machine to the underlay that is no node: nothing in the manifests speaks of it.
    #[must_use]
    pub fn external(&self, name: &str) -> External {
        External::join(&self.shared, name)
    }

    /// A Kubernetes namespace; made when it is first spoken of.
    #[must_use]
    pub fn namespace(&self, name: &str) -> NamespaceHandle {
        self.shared.ensure_namespace(name);
        NamespaceHandle { shared: Arc::clone(&self.shared), name: name.to_owned() }
    }

    /// Begins a Kubernetes Service.
    pub fn service(&self, name: &str) -> ServiceBuilder {
        ServiceBuilder::new(&self.shared, name)
    }

    /// Captures everything that crosses between nodes.
    #[must_use]
    pub fn capture(&self) -> Capture {
        self.shared.capture(&self.shared.underlay(), "br0")
    }

    /// The directory of manifests.
    #[must_use]
    pub fn manifests(&self) -> &Path {
        self.shared.manifests.directory()
    }

    /// Puts a file into the directory of manifests, whole and at once.
    pub fn write_manifest(&self, file: &str, text: &str) {
        self.shared.manifests.write(file, text);
    }

    /// The directory of the local certificate authority.
    #[must_use]
    pub fn ca_directory(&self) -> PathBuf {
        self.shared.ca_directory()
    }

    /// The names of all network namespaces that were made for it.
    #[must_use]
    pub fn namespace_names(&self) -> Vec<String> {
        lock(&self.shared.netns).clone()
    }

    /// Waits until every running agent says that these pods belong to the mesh.
    #[track_caller]
    pub fn wait_enrolled(&self, pods: &[&Pod]) {
        self.wait_enrolment(pods, true);
    }

    /// Waits until every running agent says that these pods do not belong to the mesh.
    #[track_caller]
    pub fn wait_left(&self, pods: &[&Pod]) {
        self.wait_enrolment(pods, false);
    }

    #[track_caller]
    fn wait_enrolment(&self, pods: &[&Pod], enrolled: bool) {
        let agents: Vec<Agent> = lock(&self.shared.agents).iter().filter(|a| a.is_running()).cloned().collect();
        assert!(!agents.is_empty(), "no agent is running");
        for (agent, pod) in agents.iter().flat_map(|agent| pods.iter().map(move |pod| (agent, pod))) {
            let what = format!("the agent of {} says enrolled={enrolled} of {pod}", agent.node());
            eventually(DEADLINE, &what, || (agent.enrolled(pod) == Some(enrolled)).then_some(()));
        }
    }

    /// Runs a program in a site's namespace as a process of this mesh; it is killed with the mesh.
    pub fn start_process(&self, site: &crate::Site, command: &mut Command) -> Arc<Process> {
        let number = self.shared.counter.fetch_add(1, Ordering::Relaxed);
        let log = self.shared.path(&format!("process-{number}.log"));
        self.shared.start(&site.to_string(), site.netns(), command, &log)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let mut problems = self.shared.tear_down();
        // Agents know their mesh: taking them breaks the circle.
        let agents = std::mem::take(&mut *lock(&self.shared.agents));
        if failing {
            agents.iter().for_each(print_last_lines);
            return;
        }
        problems.extend(self.shared.leftovers());
        assert!(problems.is_empty(), "at the end of the mesh:\n{}", problems.join("\n"));
    }
}

impl NamespaceHandle {
    /// Sets a label.
    pub fn label(&self, key: &str, value: &str) -> &Self {
        self.change(|labels| {
            labels.insert(key.to_owned(), value.to_owned());
        })
    }

    /// Removes a label.
    pub fn unlabel(&self, key: &str) -> &Self {
        self.change(|labels| {
            labels.remove(key);
        })
    }

    /// Enrols the pods of the namespace.
    pub fn enrol(&self) -> &Self {
        self.label(MODE_LABEL, "ambient")
    }

    /// Takes the pods of the namespace out of the mesh.
    pub fn leave(&self) -> &Self {
        self.unlabel(MODE_LABEL)
    }

    /// Removes the namespace's manifest; pods that are in it are to be removed before.
    pub fn delete(&self) {
        let labels = lock(&self.shared.namespaces).remove(&self.name).unwrap_or_default();
        self.shared.manifests.delete(&namespace_object(&self.name, &labels));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) -> &Self {
        let mut namespaces = lock(&self.shared.namespaces);
        let labels = namespaces.entry(self.name.clone()).or_default();
        change(labels);
        self.shared.manifests.apply(&namespace_object(&self.name, labels));
        self
    }
}

impl Shared {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn ca_directory(&self) -> PathBuf {
        self.path("ca")
    }

    pub(crate) fn underlay(&self) -> Arc<Netns> {
        lock(&self.underlay).clone().expect("a mesh has an underlay from the start to its end")
    }

    /// Makes a namespace called `<mesh>-<name>`.
    pub(crate) fn create_netns(&self, name: &str) -> Arc<Netns> {
        let name = format!("{}-{name}", self.id);
        let _making = lock(&MAKING);
        lock(&self.netns).push(name.clone());
        Arc::new(Netns::create(&name))
    }

    pub(crate) fn ensure_namespace(&self, name: &str) {
        let mut namespaces = lock(&self.namespaces);
        if !namespaces.contains_key(name) {
            namespaces.insert(name.to_owned(), BTreeMap::new());
            self.manifests.apply(&namespace_object(name, &BTreeMap::new()));
        }
    }

    /// Starts a process that ends with the mesh at the latest.
    pub(crate) fn start(&self, name: &str, netns: &Netns, command: &mut Command, log: &Path) -> Arc<Process> {
        let _making = lock(&MAKING);
        let process = Arc::new(Process::start(name, netns, command, log));
        lock(&self.processes).push(Arc::clone(&process));
        process
    }

    pub(crate) fn capture(&self, netns: &Arc<Netns>, interface: &str) -> Capture {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let (address, port) = BEACON;
        let beacon = SocketAddr::new(IpAddr::from(address), port);
        Capture::start(self, (netns, interface), beacon, self.path(&format!("{number}.pcap")))
    }

    /// A number that no service of this mesh has had.
    pub(crate) fn next_service(&self) -> u8 {
        let number = self.services.fetch_add(1, Ordering::Relaxed) + 1;
        u8::try_from(number).expect("at most 255 services")
    }

    pub(crate) fn add_agent(&self, agent: &Agent) {
        lock(&self.agents).push(agent.clone());
    }

    /// Ends everything. Returns what had gone wrong before.
    fn tear_down(&self) -> Vec<String> {
        let handlers = self.servers.stop();
        let mut problems: Vec<String> =
            handlers.iter().map(|conn| format!("a server's handler failed on {conn}")).collect();
        let agents = lock(&self.agents).clone();
        problems.extend(agents.iter().filter_map(Agent::complaint));
        Agent::end_all(&agents, AGENT_END);
        lock(&self.processes).iter().for_each(|process| process.kill());
        for name in lock(&self.netns).iter() {
            remove_pins(name);
            netns::remove(name);
        }
        lock(&self.underlay).take();
        problems
    }

    fn leftovers(&self) -> Vec<String> {
        let namespaces =
            netns::names(&format!("{}-", self.id)).into_iter().map(|name| format!("namespace {name} is left"));
        let processes = lock(&self.processes);
        let running = processes.iter().filter(|p| p.is_running()).map(|p| format!("process {} is left", p.pid()));
        namespaces.chain(running).collect()
    }
}

/// Makes SIGINT and SIGTERM end this process cleanly: everything that its meshes made is removed first. For programs.
///
/// # Panics
/// When the kernel refuses a handler.
pub fn clean_up_on_signals() {
    let mut signals = Signals::new([SIGINT, SIGTERM]).expect("these signals can be handled");
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _nothing_more = lock(&MAKING);
            for shared in lock(&LIVE).iter().filter_map(Weak::upgrade) {
                shared.tear_down();
                remove_directory(shared.directory.path());
            }
            std::process::exit(130);
        }
    });
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn namespace_object(name: &str, labels: &BTreeMap<String, String>) -> serde_json::Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

/// Why there can be no mesh here, if so.
fn obstacle() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("needs root, for network namespaces and eBPF".into());
    }
    let missing = |program: &&str| !std::env::split_paths(&path()).any(|directory| directory.join(program).is_file());
    let program = ["ip", "tcpdump"].into_iter().find(missing)?;
    Some(format!("needs the program {program}"))
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

#[expect(clippy::print_stderr, reason = "shown by the test runner beside the failure")]
fn print_last_lines(agent: &Agent) {
    const LINES: usize = 60;
    let log = agent.log();
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    eprintln!("---- last lines of the agent of {}:\n{}", agent.node(), last.join("\n"));
}
