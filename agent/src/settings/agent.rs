//! Settings that every node agent has.

use std::thread::available_parallelism;

use anyhow::{Context, ensure};

use crate::cli::{AgentArgs, ExitPolicy, SameNodeArg, TunnelChoice};
use crate::drivers::tunnel::Config as TunnelConfig;
use crate::mesh::upstream::attempts::Patience;
use crate::roles::agent::{Config, OnExit, TunnelProtocol};
use crate::roles::pages::routes::Addresses;
use crate::telemetry::log::LogControl;
use crate::telemetry::series::Limits;
use crate::traffic::l4::direct::director::SameNode;

/// Checks the flags and turns them into what the agent needs.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub(super) fn config(node: String, args: AgentArgs, pages: Addresses, log: LogControl) -> anyhow::Result<Config> {
    ensure!(is_node_name(&node), "--node {node:?}: a node's name has 1 to 253 characters of a-z, 0-9, '-' and '.'");
    ensure!(!args.cert_lifetime.is_zero(), "--cert-lifetime must be longer than nothing");
    let cores = available_parallelism().context("counting the cores")?.get();
    let threads = args.threads.map_or_else(|| (cores / 2).max(1), usize::from);
    Ok(Config {
        node: node.into(),
        notes_heap: args.heap_profile,
        cluster: args.cluster.into(),
        trust_domain: args.trust_domain,
        pages,
        threads,
        drain: args.drain,
        tunnel: TunnelConfig::default(),
        tunnel_protocol: match args.tunnel_protocol {
            TunnelChoice::Auto => TunnelProtocol::Auto,
            TunnelChoice::H2 => TunnelProtocol::H2,
        },
        patience: Patience::default(),
        cgroup: None,
        kubelet: args.kubelet_cgroup.unwrap_or_default(),
        log,
        same_node: match args.same_node {
            SameNodeArg::Direct => SameNode::Direct,
            SameNodeArg::Relay => SameNode::Relay,
        },
        series: Limits { series: args.metrics_series.into(), idle: args.metrics_idle },
    })
}

/// What `--on-exit` asks for.
pub(super) fn on_exit(policy: ExitPolicy) -> OnExit {
    match policy {
        ExitPolicy::Keep => OnExit::Keep,
        ExitPolicy::Remove => OnExit::Remove,
    }
}

fn is_node_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !name.is_empty() && name.len() <= 253 && !name.starts_with('.') && name.bytes().all(allowed)
}
