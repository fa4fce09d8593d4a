//! Flags of operators' commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::control::diagnose::profile::{HIGHEST_FREQUENCY, MOST_SECONDS, USUAL_FREQUENCY, USUAL_SECONDS};

/// Commands for operators.
#[derive(Debug, Subcommand)]
pub enum DiagnoseCommand {
    /// Show how the agent of this node is
    ///
    /// Exit status 1 if anything is not as it should be.
    Status(StatusArgs),
    /// List the pods of this node, and which of them are carried
    ///
    /// Exit status 1 if a pod that belongs to the mesh is not carried (yet).
    Pods(PodsArgs),
    /// List services, and how many of their endpoints are ready
    Services(ListArgs),
    /// List the certificates of this node
    ///
    /// Exit status 1 if one is missing or has expired.
    Certificates(AgentArgs),
    /// List PeerAuthentications and AuthorizationPolicies
    ///
    /// Exit status 1 if one is wrong.
    Policies(ListArgs),
    /// List the connections that are open at this moment
    Connections(ConnectionsArgs),
    /// Follow one connection from its client to the policy that decides, without making it
    ///
    /// Says what each step would meet, and where it would stop. Exit status 0 if it would work, 1 if not.
    Explain(ExplainArgs),
    /// Look whether sotto can work on this machine and in this cluster, and whether it does
    ///
    /// Looks at the kernel (by having it check the eBPF programs), privileges, mounts, ports, the clock, network plugins and, with
    /// --kubeconfig or in a pod, at the API server and what may be done there. Changes nothing. Exit status 1 if a check fails.
    Check(CheckArgs),
    /// Show or change what the agent logs, while it runs
    LogLevel(LogLevelArgs),
    /// Print what the agent knows, as JSON
    ConfigDump(ConfigDumpArgs),
    /// Take a profile of the running agent: where it spends processor time, or what its memory is for
    ///
    /// The file is in pprof's format, gzipped: `go tool pprof -http=: FILE`, speedscope, Pyroscope and Parca show it.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Print the completion script of a shell
    ///
    /// For bash: sotto completion bash > /etc/bash_completion.d/sotto
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one per command
    Man {
        /// The directory they go to, as /usr/local/share/man/man1; made if it is not there
        directory: PathBuf,
    },
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Whom to ask, and how to show the answer.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// The agent to ask
    #[arg(long, value_name = "IP:PORT", env = "SOTTO_ADMIN_ADDR", default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,

    /// How to show the answer
    #[arg(long, short, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// Flags of `sotto status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Ask the agents of all nodes, through the API server: a line for each
    #[arg(long)]
    pub all_nodes: bool,

    /// With --all-nodes: how to reach the API server [default: as kubectl does]
    #[arg(long, value_name = "FILE", requires = "all_nodes")]
    pub kubeconfig: Option<PathBuf>,

    /// With --all-nodes: the kubeconfig's context to use, other than its current one
    #[arg(long, value_name = "NAME", requires = "all_nodes")]
    pub context: Option<String>,

    /// With --all-nodes: where the agents' pods are
    #[arg(long, value_name = "NAME", default_value = "sotto-system")]
    pub agent_namespace: String,

    /// Whom to ask
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of `sotto services` and `sotto policies`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only of this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Whom to ask
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of `sotto pods`.
#[derive(Args, Debug)]
pub struct PodsArgs {
    /// All pods that the agent knows, not only those of its node
    #[arg(long)]
    pub mesh: bool,

    /// Only of this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Whom to ask
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of `sotto connections`.
#[derive(Args, Debug)]
pub struct ConnectionsArgs {
    /// Only of this pod of the node
    #[arg(long, value_name = "NAMESPACE/POD")]
    pub pod: Option<String>,

    /// Only of pods in this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Only in this direction, as the pod sees it
    #[arg(long, value_enum)]
    pub direction: Option<DirectionArg>,

    /// Only with this other end: an IP address, NAMESPACE/POD, NAMESPACE/ (with the slash), a SPIFFE identity or a service's
    /// DNS name
    #[arg(long, value_name = "WHO")]
    pub peer: Option<String>,

    /// Only to this port of the server's pod
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,

    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub limit: Option<u16>,

    /// Go on where an earlier answer ended
    #[arg(long, value_name = "PLACE", conflicts_with = "watch")]
    pub after: Option<String>,

    /// Look again and again, every second or as often as said
    #[arg(long, short, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = interval)]
    pub watch: Option<Duration>,

    /// With --watch: look so many times
    #[arg(long, value_name = "N", requires = "watch")]
    pub count: Option<u32>,

    /// Whom to ask
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// A direction, as a pod sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DirectionArg {
    /// Made to the pod
    Inbound,
    /// Made by the pod
    Outbound,
}

/// Flags of `sotto explain`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("client").required(true).multiple(true).args(["from", "from_identity", "from_ip"]))]
pub struct ExplainArgs {
    /// The pod that connects
    #[arg(long, value_name = "NAMESPACE/POD", conflicts_with = "from_identity")]
    pub from: Option<String>,

    /// The identity that connects: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT
    #[arg(long, value_name = "IDENTITY")]
    pub from_identity: Option<String>,

    /// The address that the connection comes from, if not the pod's; alone: somebody in clear text
    #[arg(long, value_name = "IP")]
    pub from_ip: Option<String>,

    /// What is connected to: a pod, svc/NAMESPACE/SERVICE, SERVICE.NAMESPACE.svc, or an IP address
    #[arg(long, value_name = "NAMESPACE/POD|SERVICE|IP")]
    pub to: String,

    /// The port that the client dials
    #[arg(long, value_name = "N")]
    pub port: u16,

    /// Whom to ask
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of `sotto check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Look at the running agent, too: its pods, certificates and state
    #[arg(long)]
    pub post_install: bool,

    /// For a machine without Kubernetes: look at nothing that only a cluster's node has
    #[arg(long, conflicts_with = "kubeconfig")]
    pub standalone: bool,

    /// How to reach the API server, as the agent would [default: the service account of the pod that this runs in, if it is one]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The node's directory of CNI configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,

    /// The node's directory of CNI plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,

    /// The cgroup2 directory that the agent is told to attach to [default: the root of the hierarchy]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,

    /// Whom to ask
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of `sotto log-level`.
#[derive(Args, Debug)]
pub struct LogLevelArgs {
    /// What to change: a LEVEL for everything, or TARGET=LEVEL (access=off, sotto::traffic=debug); LEVEL is off, error, warn, info,
    /// debug or trace. Without any, shows what is logged
    #[arg(value_name = "[TARGET=]LEVEL")]
    pub levels: Vec<String>,

    /// First go back to what the agent was started with
    #[arg(long)]
    pub reset: bool,

    /// Whom to ask
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// Flags of `sotto config-dump`.
#[derive(Args, Debug)]
pub struct ConfigDumpArgs {
    /// Only these parts: pods, workloads, services, policies, certificates, problems
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub section: Vec<String>,

    /// The agent to ask
    #[arg(long, value_name = "IP:PORT", env = "SOTTO_ADMIN_ADDR", default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,
}

/// The kinds of profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Where processor time goes, by function
    ///
    /// The agent is watched from the kernel, and goes on as if nothing was. Time in the kernel is told at the function that called it.
    Cpu {
        /// For how long, 1 to 60
        #[arg(long, value_name = "N", default_value_t = USUAL_SECONDS,
            value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_SECONDS)))]
        seconds: u32,

        /// How often a thread is looked at, for each second that it runs, 1 to 1000
        #[arg(long, value_name = "HZ", default_value_t = USUAL_FREQUENCY,
            value_parser = clap::value_parser!(u32).range(1..=i64::from(HIGHEST_FREQUENCY)))]
        frequency: u32,

        /// Whom to ask, and where the answer goes
        #[command(flatten)]
        file: ProfileArgs,
    },
    /// What memory is for, by the function that allocated it; an estimate from samples
    ///
    /// Of an agent that was started with --heap-profile, all that is allocated at this moment; of any other, what is allocated while it is
    /// watched and not freed by the end.
    Heap {
        /// For how long, 1 to 60
        #[arg(long, value_name = "N", default_value_t = USUAL_SECONDS,
            value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_SECONDS)))]
        seconds: u32,

        /// Whom to ask, and where the answer goes
        #[command(flatten)]
        file: ProfileArgs,
    },
}

/// Whom to ask for a profile, and where it goes.
#[derive(Args, Debug)]
pub struct ProfileArgs {
    /// The agent to ask
    #[arg(long, value_name = "IP:PORT", env = "SOTTO_ADMIN_ADDR", default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,

    /// Where the profile goes; what the file had before is replaced. `-` is standard output, as for kubectl exec
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

/// Not so short that the agent has nothing else to do.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(100) { Err("give 100ms or more".to_owned()) } else { Ok(interval) }
}
