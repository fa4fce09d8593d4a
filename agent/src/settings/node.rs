//! Settings of `sotto node`.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::cli::NodeArgs;
use crate::control::provision::node::Node;
use crate::roles::agent;
use crate::roles::node::{Cni, Config};
use crate::roles::pages::routes::Addresses;
use crate::telemetry::log::LogControl;

/// Checks the flags and turns them into what the role needs.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: NodeArgs, log: LogControl) -> anyhow::Result<Config> {
    let cni = cni(&args);
    let admin_from_anywhere = args.admin_from_anywhere;
    let NodeArgs { node, kubeconfig, ca, proc_dir, admin_addr, metrics_addr, ready_addr, on_exit, agent, .. } = args;
    ensure!(proc_dir.join("self").exists(), "--proc-dir {}: no proc file system is mounted there", proc_dir.display());
    let pages =
        Addresses { admin: admin_addr, admin_from_anywhere, metrics: Some(metrics_addr), ready: Some(ready_addr) };
    Ok(Config {
        kubeconfig,
        root_namespace: agent.root_namespace.as_str().into(),
        proc: proc_dir,
        authority: super::ca::config(ca)?,
        cert_lifetime: agent.cert_lifetime,
        on_exit: super::agent::on_exit(on_exit),
        daemon_set: args.daemon_set,
        cni,
        agent: agent::Config { cgroup: args.cgroup, ..super::agent::config(node, agent, pages, log)? },
    })
}

fn cni(args: &NodeArgs) -> Option<Cni> {
    let (conf_dir, bin_dir) = (args.cni_conf_dir.clone()?, args.cni_bin_dir.clone()?);
    let own = args.daemon_set.iter().map(|daemon_set| &daemon_set.namespace);
    let exclude: Vec<_> = args.cni_exclude_namespaces.iter().chain(own).collect();
    let entry = json!({ "socket": args.cni_socket, "excludeNamespaces": exclude });
    let Value::Object(entry) = entry else { return None };
    Some(Cni { node: Node { conf_dir, bin_dir, entry }, socket: args.cni_socket.clone() })
}
