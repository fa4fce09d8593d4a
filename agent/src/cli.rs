//! The command line: subcommands and their flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::control::kubelet::find::KubeletCgroup;
use crate::drivers::cluster::objects::daemon_set::DaemonSetRef;
use crate::model::cni::chain::PLUGIN;
use crate::model::identity::TrustDomain;
use crate::settings::ca::CaArgs;
use crate::settings::controller::ControllerArgs;
use crate::settings::diagnose::args::DiagnoseCommand;
use crate::telemetry::log::Format;

/// A service mesh that runs beneath the pods.
#[derive(Debug, Parser)]
#[command(name = "sotto", version, about, long_about = None, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node agent without Kubernetes, on a directory of Kubernetes manifests
    Standalone(StandaloneArgs),
    /// Run the cluster's certificate authority; replicas elect the one that keeps the root
    Controller(ControllerArgs),
    /// Run the node agent on a Kubernetes cluster
    Node(NodeArgs),
    /// Commands for operators
    #[command(flatten)]
    Diagnose(DiagnoseCommand),
    /// The chained CNI plugin, which a container runtime starts; also when the binary is named `sotto-cni`
    Cni,
}

impl Cli {
    /// The command line of this process. A container runtime starts a plugin by its name and without arguments.
    #[must_use]
    pub fn of_process() -> Self {
        let mut arguments = std::env::args_os();
        let name = arguments.next().map(PathBuf::from);
        let is_plugin = name.as_ref().and_then(|path| path.file_name()).is_some_and(|name| name == PLUGIN);
        if is_plugin && arguments.next().is_none() { Self { command: Command::Cni } } else { Self::parse() }
    }
}

/// Flags of `sotto standalone`.
#[derive(Args, Debug)]
pub struct StandaloneArgs {
    /// This node's name, as the manifests' `spec.nodeName` has it; several agents may run on one machine, one per node
    #[arg(long, env = "SOTTO_NODE")]
    pub node: String,

    /// Directory of Kubernetes manifests (YAML or JSON): Namespace, Pod, Service, EndpointSlice, ServiceAccount, Node,
    /// PeerAuthentication, AuthorizationPolicy
    #[arg(long, value_name = "DIR")]
    pub manifests: PathBuf,

    /// Who signs certificates
    #[command(flatten)]
    pub ca: CaArgs,

    /// Where all pages are served: /metrics, /healthz/ready and those that operators' commands ask; a loopback address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,

    /// Take an --admin-addr that is not loopback: whoever reaches it learns all about the mesh and may change what is logged
    #[arg(long)]
    pub admin_from_anywhere: bool,

    /// Where /metrics is served as well, for a collector elsewhere
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_addr: Option<SocketAddr>,

    /// Where /healthz/ready is served as well
    #[arg(long, value_name = "IP:PORT")]
    pub ready_addr: Option<SocketAddr>,

    /// What becomes of the pods' capture when the agent ends on SIGTERM
    #[arg(long, value_enum, default_value_t = ExitPolicy::Remove)]
    pub on_exit: ExitPolicy,

    /// What every node agent has
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of `sotto node`.
#[derive(Args, Debug)]
pub struct NodeArgs {
    /// This node's name in the cluster
    #[arg(long, env = "NODE_NAME")]
    pub node: String,

    /// How to reach the API server [default: the service account of the pod that the agent runs in]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Who signs certificates
    #[command(flatten)]
    pub ca: CaArgs,

    /// Where the node's processes are; needs the node's pid namespace (hostPID)
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc_dir: PathBuf,

    /// Where all pages are served: /metrics, /healthz/ready and those that operators' commands ask; a loopback address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,

    /// Take an --admin-addr that is not loopback: whoever reaches it learns all about the mesh and may change what is logged
    #[arg(long)]
    pub admin_from_anywhere: bool,

    /// Where /metrics is served
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:15020")]
    pub metrics_addr: SocketAddr,

    /// Where /healthz/ready is served
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:15021")]
    pub ready_addr: SocketAddr,

    /// What becomes of the pods' capture when the agent ends on SIGTERM
    #[arg(long, value_enum, default_value_t = ExitPolicy::Keep)]
    pub on_exit: ExitPolicy,

    /// The agent's own DaemonSet: if it is being deleted when the agent ends, --on-exit=remove goes without saying
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = DaemonSetRef::parse)]
    pub daemon_set: Option<DaemonSetRef>,

    /// The node's directory of CNI configurations (/etc/cni/net.d): the CNI plugin joins the chain there, and no new pod starts
    /// before the agent has it
    #[arg(long, value_name = "DIR", requires = "cni_bin_dir")]
    pub cni_conf_dir: Option<PathBuf>,

    /// The node's directory of CNI plugins (/opt/cni/bin)
    #[arg(long, value_name = "DIR", requires = "cni_conf_dir")]
    pub cni_bin_dir: Option<PathBuf>,

    /// Where the CNI plugin finds the agent; the same path for the agent and on the node
    #[arg(long, value_name = "PATH", default_value = crate::model::cni::config::DEFAULT_SOCKET)]
    pub cni_socket: PathBuf,

    /// Namespaces whose pods start whether there is an agent or not, besides the DaemonSet's own; none of them is ever in the mesh
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "kube-system,kube-public,kube-node-lease")]
    pub cni_exclude_namespaces: Vec<String>,

    /// The cgroup2 directory to attach to, instead of the root of the hierarchy: for nodes that are containers themselves
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,

    /// What every node agent has
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// What becomes of the pods' capture when the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExitPolicy {
    /// Stays in force: new connections wait for the next agent, as after a crash; for restarts and upgrades
    Keep,
    /// Ends: pods talk plainly; for removing the mesh from the node
    Remove,
}

/// Flags that every node agent has.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// The trust domain of all identities
    #[arg(long, value_name = "NAME", default_value = crate::model::identity::DEFAULT_TRUST_DOMAIN, value_parser = TrustDomain::new)]
    pub trust_domain: TrustDomain,

    /// The namespace whose PeerAuthentications and AuthorizationPolicies are for the whole mesh
    #[arg(long, value_name = "NAME", default_value = crate::model::policy::policies::DEFAULT_ROOT_NAMESPACE)]
    pub root_namespace: String,

    /// The cluster's name in telemetry
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub cluster: String,

    /// How long a certificate is valid; it is replaced at half of that
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    pub cert_lifetime: Duration,

    /// Data-plane threads [default: half of the cores, at least one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// What the tunnels speak that this agent opens; as a server it takes either
    #[arg(long, value_name = "PROTOCOL", default_value = "auto")]
    pub tunnel_protocol: TunnelChoice,

    /// How long open connections may go on after SIGTERM; a second SIGTERM ends them at once
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub drain: Duration,

    /// The kubelet's cgroup, from the root of the cgroup2 hierarchy, or `none`: connections that its processes make on the node reach
    /// pods whatever policy says (probes, lifecycle hooks) [default: kubelet.service in system.slice or where else it usually is]
    #[arg(long, value_name = "PATH")]
    pub kubelet_cgroup: Option<KubeletCgroup>,

    /// How connections between two enrolled pods of this node travel
    #[arg(long, value_enum, default_value_t = SameNodeArg::Direct)]
    pub same_node: SameNodeArg,
    /// How long the metrics of a pair of workloads are shown after its last connection
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    pub metrics_idle: Duration,

    /// Pairs of workloads with metrics of their own; all others are counted together, under the labels `overflow`. 0: connections
    /// are not counted
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub metrics_series: u16,

    /// Note allocations from the start, so that a heap profile tells of all memory in use, not only of what is allocated while it is taken;
    /// costs some memory
    #[arg(long, env = "SOTTO_HEAP_PROFILE", value_name = "BOOL", num_args = 0..=1, default_value_t = false, default_missing_value = "true",
        action = clap::ArgAction::Set)]
    pub heap_profile: bool,

    /// What to log, in the form of RUST_LOG
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What tunnels speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TunnelChoice {
    /// `sotto/1` with agents that know it, HBONE with others
    Auto,
    /// HBONE with everybody
    H2,
}

/// How connections between two enrolled pods of one node travel.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SameNodeArg {
    /// Straight from pod to pod, once the agent has let the first of their kind in; identity and policy are enforced in the kernel
    Direct,
    /// Through the agent, each of them
    Relay,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
