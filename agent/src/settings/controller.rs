//! Settings of `sotto controller`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::cli::LogFormat;
use crate::control::authority::issue::authorize::Rules;
use crate::control::authority::issue::caller::ServiceAccount;
use crate::control::authority::root::rotation::Timing;
use crate::model::identity::TrustDomain;
use crate::roles::controller::Config;

/// Looks at the Secret that may fail before a replica stops signing.
const MISSED_LOOKS: u32 = 6;

/// What `--rotation-wait` adds to the longest life of a certificate.
const ROTATION_SLACK: Duration = Duration::from_secs(300);

/// Flags of `sotto controller`.
#[derive(Args, Debug)]
pub struct ControllerArgs {
    /// Namespace of this controller and of all its objects
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "sotto-system")]
    pub namespace: String,

    /// This replica's name
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "controller")]
    pub replica: String,

    /// Connect to Kubernetes as this file says [default: the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Where certificates are issued (gRPC over TLS)
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15012")]
    pub listen: SocketAddr,

    /// Where /metrics and /healthz/ready are served
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15014")]
    pub admin_addr: SocketAddr,

    /// DNS names in the controller's own certificate [default: sotto-controller.NAMESPACE.svc and its other forms]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub server_name: Vec<String>,

    /// The trust domain of all identities
    #[arg(long, value_name = "NAME", default_value = crate::model::identity::DEFAULT_TRUST_DOMAIN, value_parser = TrustDomain::new)]
    pub trust_domain: TrustDomain,

    /// Audiences that a caller's token may be for
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "istio-ca")]
    pub token_audience: Vec<String>,

    /// Service accounts of node agents, NAMESPACE/NAME: they may ask for the identities of the pods on their own node
    /// [default: NAMESPACE/sotto-node]
    #[arg(long, env = "CA_TRUSTED_NODE_ACCOUNTS", value_name = "ACCOUNT", value_delimiter = ',', value_parser = ServiceAccount::parse)]
    pub trusted_node_accounts: Vec<ServiceAccount>,

    /// Secret in which an authority may be plugged in (root-cert.pem ca-cert.pem ca-key.pem cert-chain.pem)
    #[arg(long, value_name = "NAME", default_value = "cacerts")]
    pub plugged_secret: String,

    /// Secret of the authority that is made where none is plugged in; `kubectl annotate secret NAME sotto.dev/rotate=root` (or
    /// =intermediate) replaces its root (or intermediate)
    #[arg(long, value_name = "NAME", default_value = "sotto-ca")]
    pub own_secret: String,

    /// ConfigMap that the roots are published in (key root-cert.pem)
    #[arg(long, value_name = "NAME", default_value = "sotto-ca-root-cert")]
    pub root_config_map: String,

    /// The longest life of a workload's certificate
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    pub max_cert_lifetime: Duration,

    /// How long each change of a root is waited for [default: --max-cert-lifetime and five minutes]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub rotation_wait: Option<Duration>,

    /// How long a root lives
    #[arg(long, value_name = "DURATION", default_value = "3650days", value_parser = humantime::parse_duration)]
    pub root_lifetime: Duration,

    /// How long the intermediate lives that signs
    #[arg(long, value_name = "DURATION", default_value = "365days", value_parser = humantime::parse_duration)]
    pub intermediate_lifetime: Duration,

    /// How often the Secrets are looked at; without a look for six times as long nothing is signed
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub refresh: Duration,

    /// How long leadership is held without being renewed
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = humantime::parse_duration)]
    pub lease_duration: Duration,

    /// How long requests may go on after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub drain: Duration,

    /// What to log, in the form of RUST_LOG
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Checks the flags and turns them into what the role needs.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: ControllerArgs) -> anyhow::Result<Config> {
    let timing = timing(&args)?;
    ensure!(!args.token_audience.iter().any(String::is_empty), "--token-audience: an audience must not be empty");
    let accounts = args.trusted_node_accounts;
    let node_accounts = if accounts.is_empty() {
        vec![ServiceAccount { namespace: args.namespace.clone(), name: "sotto-node".to_owned() }]
    } else {
        accounts
    };
    let forms = ["", ".svc", ".svc.cluster.local"];
    let names = if args.server_name.is_empty() {
        forms.iter().map(|form| format!("sotto-controller.{}{form}", args.namespace)).collect()
    } else {
        args.server_name
    };
    Ok(Config {
        kubeconfig: args.kubeconfig,
        namespace: args.namespace,
        // A process that is started anew under the same name is another holder of the Lease.
        replica: format!("{}_{:08x}", args.replica, fastrand::u32(..)),
        listen: args.listen,
        admin: args.admin_addr,
        names,
        audiences: args.token_audience,
        rules: Rules { trust_domain: args.trust_domain, node_accounts },
        plugged_secret: args.plugged_secret,
        own_secret: args.own_secret,
        root_config_map: args.root_config_map,
        timing,
        refresh: args.refresh,
        patience: args.refresh * MISSED_LOOKS,
        lease_duration: args.lease_duration,
        drain: args.drain,
    })
}

fn timing(args: &ControllerArgs) -> anyhow::Result<Timing> {
    let max_leaf = args.max_cert_lifetime;
    let wait = args.rotation_wait.unwrap_or(max_leaf + ROTATION_SLACK);
    let noticed = args.refresh.saturating_mul(MISSED_LOOKS);
    ensure!(args.refresh >= Duration::from_millis(100), "--refresh must be 100ms or more");
    ensure!(args.lease_duration >= Duration::from_secs(1), "--lease-duration must be a second or more");
    ensure!(max_leaf >= Duration::from_secs(1), "--max-cert-lifetime must be a second or more");
    ensure!(
        wait >= max_leaf + noticed,
        "--rotation-wait must be {} or more (--max-cert-lifetime and six times --refresh): a root would be retired while certificates from under it live",
        humantime::format_duration(max_leaf + noticed)
    );
    ensure!(
        args.intermediate_lifetime >= max_leaf * 3,
        "--intermediate-lifetime must be three times --max-cert-lifetime or more"
    );
    ensure!(args.root_lifetime >= wait * 8, "--root-lifetime must be eight times --rotation-wait or more");
    Ok(Timing { max_leaf, wait, root: args.root_lifetime, intermediate: args.intermediate_lifetime })
}
