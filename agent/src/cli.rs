//! The command line: subcommands and their flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model::cni::chain::PLUGIN;
use crate::model::identity::TrustDomain;
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
#[expect(clippy::large_enum_variant, reason = "one exists, and only until its role starts")]
pub enum Command {
    /// Run the node agent without Kubernetes, on a directory of Kubernetes manifests
    Standalone(StandaloneArgs),

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

    /// Directory of the certificate authority (root-cert.pem ca-cert.pem ca-key.pem cert-chain.pem): used if they are there,
    /// created otherwise; nodes that share it trust each other
    #[arg(long, value_name = "DIR")]
    pub ca_dir: PathBuf,

    /// Where /metrics, /healthz/ready and /config_dump are served; loopback only
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,

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

    /// How long open connections may go on after SIGTERM; a second SIGTERM ends them at once
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub drain: Duration,

    /// What to log, in the form of RUST_LOG
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
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
