//! A stock ztunnel beside one pod, where the environment names one: the other implementation of HBONE.
//!
//! `ZTUNNEL_BIN` names a binary that was built with the feature `testing`, whose certificates come from an authority in its
//! source tree. `ZTUNNEL_CA` names the directory with that authority's `root-cert.pem` and `ca-key.pem`; without it, they
//! are looked for in the source tree around the binary.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::access_log::{self, AccessEntry};
use super::http;
use super::metrics::Metrics;
use super::zds::{Listener, Pods};
use crate::mesh::Mesh;
use crate::node::Node;
use crate::pod::Pod;
use crate::process::Process;
use crate::traffic::Site;
use crate::wait::{DEADLINE, eventually};

/// The mark on ztunnel's own packets.
const OWN: &str = "0x539/0xfff";

/// The mark on connections that ztunnel has made in a client's name: their answers stay in the pod.
const IN_CLIENTS_NAME: &str = "0x111/0xfff";

/// How long it may take to come and, with connections open, to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// A ztunnel that can be started.
#[derive(Debug)]
pub struct ZtunnelProgram {
    binary: PathBuf,
    authority: PathBuf,
}

/// A running ztunnel: it carries one pod, as a sidecar does.
#[derive(Debug)]
pub struct Ztunnel {
    process: Arc<Process>,
    pod: Pod,
}

/// A running ztunnel that carries the pods of a node.
#[derive(Debug)]
pub struct NodeZtunnel {
    process: Arc<Process>,
    node: Node,
    own: Site,
    told: Pods,
}

impl ZtunnelProgram {
    /// The one that the environment names. `None`, with a line that starts with `skipped:`, where it names none.
    ///
    /// # Panics
    /// When it names one that is not there or has no authority.
    #[must_use]
    pub fn find(test: &str) -> Option<Self> {
        let Some(binary) = std::env::var_os("ZTUNNEL_BIN").map(PathBuf::from) else {
            // Straight to the descriptor: the test runner would keep a print from being seen.
            let _ = writeln!(std::io::stdout().lock(), "skipped: {test}: ZTUNNEL_BIN names no ztunnel");
            return None;
        };
        assert!(binary.is_file(), "ZTUNNEL_BIN={}: no such file", binary.display());
        let named = std::env::var_os("ZTUNNEL_CA").map(PathBuf::from);
        let mut around = binary.ancestors().map(|directory| directory.join("src/tls"));
        let authority = named.or_else(|| around.find(|directory| directory.join("ca-key.pem").is_file()));
        let Some(authority) = authority else {
            panic!("ZTUNNEL_CA names no directory, and there is no source tree around {}", binary.display());
        };
        Some(Self { binary, authority })
    }

    /// Makes its authority the mesh's. To be called before an agent starts.
    ///
    /// # Panics
    /// When a file cannot be copied.
    pub fn share_authority(&self, mesh: &Mesh) {
        let copies = [
            ("root-cert.pem", "root-cert.pem"),
            ("root-cert.pem", "ca-cert.pem"),
            ("root-cert.pem", "cert-chain.pem"),
            ("ca-key.pem", "ca-key.pem"),
        ];
        for (from, to) in copies {
            let (from, to) = (self.authority.join(from), mesh.ca_directory().join(to));
            let copied = fs::copy(&from, &to);
            let private = copied.and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(0o600)));
            private.unwrap_or_else(|error| panic!("cannot copy {} to {}: {error}", from.display(), to.display()));
        }
    }

    /// Starts one for a node, which carries the pods that it will be told of, as Istio runs it. It knows `pods`, all as members of the
    /// mesh.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    #[must_use]
    pub fn start_on_node(&self, mesh: &Mesh, node: &Node, pods: &[&Pod]) -> NodeZtunnel {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let beside = |name: &str| mesh.ca_directory().with_file_name(format!("ztunnel-{number}.{name}"));
        let (state, socket) = (beside("yaml"), beside("sock"));
        fs::write(&state, mesh_state(pods, json!([]))).expect("a file can be written beside the authority");
        let listener =
            Listener::bind(&socket).unwrap_or_else(|error| panic!("cannot listen on {}: {error}", socket.display()));
        let mut command = self.command(node.name(), &state);
        command.env("PROXY_MODE", "shared").env("INPOD_UDS", &socket);
        // As a pod, it has a namespace of its own: an old and a new one serve their pages side by side.
        let name = format!("ztunnel-{number}");
        let own = Site::new(&name, mesh.shared.create_netns(&name), Arc::clone(&mesh.shared.servers));
        let process = mesh.start_process(&own, &mut command);
        let told = listener.accept().and_then(|told| told.complete().map(|()| told));
        let told = told
            .unwrap_or_else(|error| panic!("the ztunnel of {node} does not ask for pods: {error}\n{}", process.log()));
        let ztunnel = NodeZtunnel { process, node: node.clone(), own, told };
        eventually(PATIENCE, &format!("the ztunnel of {node} is ready"), || {
            assert!(ztunnel.process.is_running(), "the ztunnel of {node} ended:\n{}", ztunnel.log());
            matches!(page(&ztunnel.own, 15021, "/healthz/ready"), Some((200, _))).then_some(())
        });
        ztunnel
    }

    /// Starts one for `pod`, which must not be on an agent's node. It knows `pods`, all as members of the mesh, and
    /// refuses connections to `denied` ports.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    #[must_use]
    pub fn start(&self, mesh: &Mesh, pod: &Pod, pods: &[&Pod], denied: &[u16]) -> Ztunnel {
        redirect(pod);
        let state = mesh.ca_directory().with_file_name(format!("ztunnel-{}.yaml", pod.name()));
        fs::write(&state, mesh_state(pods, denying(pod, denied))).expect("a file can be written beside the authority");
        let (_, service_account) =
            pod.identity().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a SPIFFE ID");
        let mut command = self.command(&pod.node(), &state);
        command
            .env("PROXY_MODE", "dedicated")
            .env("PROXY_WORKLOAD_INFO", format!("{}/{}/{service_account}", pod.namespace(), pod.name()));
        let ztunnel = Ztunnel { process: mesh.start_process(pod, &mut command), pod: pod.clone() };
        eventually(PATIENCE, &format!("the ztunnel of {pod} is ready"), || {
            assert!(ztunnel.process.is_running(), "the ztunnel of {pod} ended:\n{}", ztunnel.log());
            matches!(page(pod, 15021, "/healthz/ready"), Some((200, _))).then_some(())
        });
        ztunnel
    }

    fn command(&self, node: &str, state: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env("FAKE_CA", "true")
            .env("XDS_ADDRESS", "")
            .env("LOCAL_XDS_PATH", state)
            .env("CLUSTER_ID", "Kubernetes")
            .env("NODE_NAME", node)
            .env("PACKET_MARK", "1337")
            .env("ISTIO_META_DNS_CAPTURE", "false")
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1");
        command
    }
}

impl NodeZtunnel {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Takes a pod in: captures its connections from now on, and tells ztunnel.
    ///
    /// # Panics
    /// When ztunnel refuses.
    #[track_caller]
    pub fn add(&self, pod: &Pod) {
        // ztunnel first: what is captured then finds it.
        self.told.add(pod).unwrap_or_else(|error| panic!("the ztunnel of {} does not take {pod}: {error}", self.node));
        redirect(pod);
    }

    /// Tells ztunnel that it has a pod that an older one has captured.
    ///
    /// # Panics
    /// When ztunnel refuses.
    #[track_caller]
    pub fn adopt(&self, pod: &Pod) {
        self.told.add(pod).unwrap_or_else(|error| panic!("the ztunnel of {} does not take {pod}: {error}", self.node));
    }

    /// Lets a pod go: captures no new connection, and tells ztunnel.
    ///
    /// # Panics
    /// When ztunnel refuses.
    #[track_caller]
    pub fn remove(&self, pod: &Pod) {
        release(pod);
        self.told.remove(pod).unwrap_or_else(|error| panic!("the ztunnel of {} keeps {pod}: {error}", self.node));
    }

    /// Its metrics.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        match page(&self.own, 15020, "/metrics") {
            Some((200, text)) => Metrics::parse(&text),
            other => panic!("the ztunnel of {} answers /metrics with {other:?}", self.node),
        }
    }

    /// Ends it as an operator does (SIGTERM).
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        self.process.terminate(PATIENCE)
    }

    /// Ends it as a crash does (SIGKILL).
    pub fn kill(&self) {
        self.process.kill();
    }
}

impl Ztunnel {
    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for a connection in its access log.
    #[track_caller]
    pub fn wait_access(&self, what: &str, predicate: impl Fn(&AccessEntry) -> bool) -> AccessEntry {
        eventually(DEADLINE, &format!("the ztunnel of {} logs the connection {what}", self.pod), || {
            access_log::parse(&self.log()).into_iter().find(&predicate)
        })
    }

    /// Its metrics.
    ///
    /// # Panics
    /// When it does not serve them.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        match page(&self.pod, 15020, "/metrics") {
            Some((200, text)) => Metrics::parse(&text),
            other => panic!("the ztunnel of {} answers /metrics with {other:?}", self.pod),
        }
    }

    /// Ends it as an operator does (SIGTERM).
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        self.process.terminate(PATIENCE)
    }

    /// Ends it as a crash does (SIGKILL).
    pub fn kill(&self) {
        self.process.kill();
    }
}

/// A page of a ztunnel's, from inside of where it runs.
fn page(site: &Site, port: u16, path: &str) -> Option<(u16, String)> {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    http::get(site.netns(), address, path).ok()
}

/// Takes a pod's connections to the ports of the ztunnel that runs in it. Done once for each pod, however often its ztunnel
/// starts.
fn redirect(pod: &Pod) {
    let netns = pod.netns();
    if netns.output("ip", &["rule"]).contains("fwmark") {
        return;
    }
    for (family, everything) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        let _ = netns.output("ip", &[family, "rule", "add", "fwmark", IN_CLIENTS_NAME, "lookup", "100"]);
        let _ = netns.output("ip", &[family, "route", "replace", "local", everything, "dev", "lo", "table", "100"]);
    }
    let rules = [
        // The answers of the application to connections in a client's name find back to ztunnel.
        format!("-t mangle -A PREROUTING -m mark --mark {OWN} -j CONNMARK --set-mark {IN_CLIENTS_NAME}"),
        format!("-t mangle -A OUTPUT -m connmark --mark {IN_CLIENTS_NAME} -j MARK --set-mark {IN_CLIENTS_NAME}"),
        // What the application dials, and what reaches it from outside.
        "-t nat -A OUTPUT -p tcp ! -o lo -m mark --mark 0/0xfff -j REDIRECT --to-ports 15001".to_owned(),
        "-t nat -A PREROUTING -p tcp -i eth0 ! --dport 15008 -j REDIRECT --to-ports 15006".to_owned(),
    ];
    for program in ["iptables-legacy", "ip6tables-legacy"] {
        for rule in &rules {
            let arguments: Vec<&str> = ["-w", "10"].into_iter().chain(rule.split_whitespace()).collect();
            let _ = netns.output(program, &arguments);
        }
    }
}

/// Undoes [`redirect`]. Open connections stay redirected: the kernel remembers them one by one.
fn release(pod: &Pod) {
    let netns = pod.netns();
    for family in ["-4", "-6"] {
        let _ = netns.output("ip", &[family, "rule", "del", "fwmark", IN_CLIENTS_NAME, "lookup", "100"]);
    }
    for program in ["iptables-legacy", "ip6tables-legacy"] {
        for table in ["nat", "mangle"] {
            let _ = netns.output(program, &["-w", "10", "-t", table, "-F"]);
        }
    }
}

/// The mesh as ztunnel reads it from a file.
fn mesh_state(pods: &[&Pod], policies: Value) -> String {
    let workload = |pod: &&Pod| {
        let identity = pod.identity();
        json!({
            "uid": format!("Kubernetes//v1/Pod/{}/{}", pod.namespace(), pod.name()),
            "name": pod.name(),
            "namespace": pod.namespace(),
            "trustDomain": "cluster.local",
            "serviceAccount": Path::new(&identity).file_name().and_then(|name| name.to_str()),
            "workloadIps": [pod.ip(), pod.ip6()],
            "protocol": "HBONE",
            "node": pod.node(),
            "clusterId": "Kubernetes",
            "network": "",
            "services": {},
        })
    };
    let workloads: Vec<_> = pods.iter().map(workload).collect();
    // JSON is YAML.
    json!({ "workloads": workloads, "policies": policies, "services": [] }).to_string()
}

/// A policy that refuses connections to ports of `own`, if there are any.
fn denying(own: &Pod, denied: &[u16]) -> Value {
    if denied.is_empty() {
        return json!([]);
    }
    json!([{
        "name": "denied-ports",
        "namespace": own.namespace(),
        "scope": "Namespace",
        "action": "Deny",
        "rules": [[[{ "destinationPorts": denied }]]],
        "dryRun": false,
    }])
}
