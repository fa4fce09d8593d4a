//! Settings of `sotto node`.

use anyhow::ensure;

use crate::cli::{ExitPolicy, NodeArgs};
use crate::roles::agent::OnExit;
use crate::roles::node::Config;
use crate::roles::pages::Addresses;

/// Checks the flags and turns them into what the role needs.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: NodeArgs) -> anyhow::Result<Config> {
    let NodeArgs { node, kubeconfig, ca, proc_dir, admin_addr, metrics_addr, ready_addr, on_exit, agent } = args;
    ensure!(proc_dir.join("self").exists(), "--proc-dir {}: no proc file system is mounted there", proc_dir.display());
    let pages = Addresses { admin: admin_addr, metrics: Some(metrics_addr), ready: Some(ready_addr) };
    let on_exit = match on_exit {
        ExitPolicy::Keep => OnExit::Keep,
        ExitPolicy::Remove => OnExit::Remove,
    };
    Ok(Config {
        kubeconfig,
        root_namespace: agent.root_namespace.as_str().into(),
        proc: proc_dir,
        authority: super::ca::config(ca)?,
        cert_lifetime: agent.cert_lifetime,
        agent: super::agent::config(node, agent, pages, on_exit)?,
    })
}
