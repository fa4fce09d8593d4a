//! Settings of `sotto standalone`.

use anyhow::ensure;

use crate::cli::StandaloneArgs;
use crate::roles::pages::routes::Addresses;
use crate::roles::standalone::Config;
use crate::telemetry::log::LogControl;

/// Checks the flags and turns them into what the role needs.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: StandaloneArgs, log: LogControl) -> anyhow::Result<Config> {
    let StandaloneArgs {
        node,
        manifests,
        ca,
        admin_addr,
        admin_from_anywhere,
        metrics_addr,
        ready_addr,
        on_exit,
        agent,
    } = args;
    ensure!(manifests.is_dir(), "--manifests {}: no such directory", manifests.display());
    let pages = Addresses { admin: admin_addr, admin_from_anywhere, metrics: metrics_addr, ready: ready_addr };
    Ok(Config {
        manifests,
        root_namespace: agent.root_namespace.as_str().into(),
        authority: super::ca::config(ca)?,
        cert_lifetime: agent.cert_lifetime,
        on_exit: super::agent::on_exit(on_exit),
        agent: super::agent::config(node, agent, pages, log)?,
    })
}
