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
use std::time::Duration;

use serde_json::json;

use super::access_log::{self, AccessEntry};
use super::http;
use super::metrics::Metrics;
use crate::mesh::Mesh;
use crate::pod::Pod;
use crate::process::Process;
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
        fs::write(&state, mesh_state(pod, pods, denied)).expect("a file can be written beside the authority");
        let (_, service_account) =
            pod.identity().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a SPIFFE ID");
        let mut command = Command::new(&self.binary);
        command
            .env("FAKE_CA", "true")
            .env("XDS_ADDRESS", "")
            .env("LOCAL_XDS_PATH", &state)
            .env("CLUSTER_ID", "Kubernetes")
            .env("NODE_NAME", pod.node())
            .env("PROXY_MODE", "dedicated")
            .env("PROXY_WORKLOAD_INFO", format!("{}/{}/{service_account}", pod.namespace(), pod.name()))
            .env("PACKET_MARK", "1337")
            .env("ISTIO_META_DNS_CAPTURE", "false")
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1");
        let ztunnel = Ztunnel { process: mesh.start_process(pod, &mut command), pod: pod.clone() };
        eventually(PATIENCE, &format!("the ztunnel of {pod} is ready"), || {
            assert!(ztunnel.process.is_running(), "the ztunnel of {pod} ended:\n{}", ztunnel.log());
            matches!(ztunnel.page(15021, "/healthz/ready"), Some((200, _))).then_some(())
        });
        ztunnel
    }
}

impl Ztunnel {
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
        match self.page(15020, "/metrics") {
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

    fn page(&self, port: u16, path: &str) -> Option<(u16, String)> {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        http::get(self.pod.netns(), address, path).ok()
    }
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
        let _ = netns.output("ip", &[family, "route", "add", "local", everything, "dev", "lo", "table", "100"]);
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

/// The mesh as ztunnel reads it from a file.
fn mesh_state(own: &Pod, pods: &[&Pod], denied: &[u16]) -> String {
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
    let deny = json!({
        "name": "denied-ports",
        "namespace": own.namespace(),
        "scope": "Namespace",
        "action": "Deny",
        "rules": [[[{ "destinationPorts": denied }]]],
        "dryRun": false,
    });
    let policies = if denied.is_empty() { json!([]) } else { json!([deny]) };
    let workloads: Vec<_> = pods.iter().map(workload).collect();
    // JSON is YAML.
    json!({ "workloads": workloads, "policies": policies, "services": [] }).to_string()
}
