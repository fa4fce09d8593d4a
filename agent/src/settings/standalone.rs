//! Settings of `sotto standalone`.

use std::thread::available_parallelism;

use anyhow::{Context, ensure};

use crate::cli::StandaloneArgs;
use crate::drivers::tunnel::Config as TunnelConfig;
use crate::mesh::upstream::attempts::Patience;
use crate::roles::agent;
use crate::roles::standalone::{AuthorityConfig, Config};

/// Checks the flags and turns them into what the role needs.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: StandaloneArgs) -> anyhow::Result<Config> {
    ensure!(
        is_node_name(&args.node),
        "--node {:?}: a node's name has 1 to 253 characters of a-z, 0-9, '-' and '.'",
        args.node
    );
    ensure!(args.manifests.is_dir(), "--manifests {}: no such directory", args.manifests.display());
    ensure!(!args.cert_lifetime.is_zero(), "--cert-lifetime must be longer than nothing");
    let cores = available_parallelism().context("counting the cores")?.get();
    let threads = args.threads.map_or_else(|| (cores / 2).max(1), usize::from);
    let authority = match (args.ca_dir, super::ca::config(args.ca)?) {
        (Some(directory), None) => AuthorityConfig::Directory(directory),
        (None, Some(remote)) => AuthorityConfig::Remote(remote),
        (Some(_), Some(_)) | (None, None) => anyhow::bail!("give either --ca-dir or --ca-address"),
    };
    Ok(Config {
        manifests: args.manifests,
        root_namespace: args.root_namespace.into(),
        authority,
        cert_lifetime: args.cert_lifetime,
        agent: agent::Config {
            node: args.node.into(),
            cluster: args.cluster.into(),
            trust_domain: args.trust_domain,
            admin: args.admin_addr,
            threads,
            drain: args.drain,
            tunnel: TunnelConfig::default(),
            patience: Patience::default(),
        },
    })
}

fn is_node_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !name.is_empty() && name.len() <= 253 && !name.starts_with('.') && name.bytes().all(allowed)
}
