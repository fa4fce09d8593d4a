//! Ports and the network plugins of the node.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::control::diagnose::check::Finding;

/// How the configurations that container runtimes read are called.
const CONFIGURATIONS: [&str; 3] = ["conf", "conflist", "json"];

/// Whether the agent will find its ports free.
pub(super) fn ports(addresses: &[(&str, SocketAddr)], agent_runs: bool) -> Vec<Finding> {
    addresses.iter().map(|(flag, address)| port(flag, *address, agent_runs)).collect()
}

fn port(flag: &str, address: SocketAddr, agent_runs: bool) -> Finding {
    let check = format!("port {}", address.port());
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(&check, format!("{address} is free ({flag})")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && agent_runs => {
            Finding::ok(&check, format!("{address} is in use; an agent runs here"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::failed(
            &check,
            format!("{address} is in use by something else"),
            format!("end what listens there (ss -ltnp), or give the agent another {flag}"),
        ),
        Err(error) => Finding::failed(&check, format!("{address}: {error}"), format!("give the agent another {flag}")),
    }
}

/// Whether new pods can be met through the chain of network plugins.
pub(super) fn cni(conf_dir: &Path, bin_dir: &Path) -> Vec<Finding> {
    vec![configurations(conf_dir), binaries(bin_dir)]
}

fn configurations(directory: &Path) -> Finding {
    const CHECK: &str = "CNI configuration";
    let place = directory.display();
    let is_one =
        |path: &Path| path.extension().is_some_and(|ending| CONFIGURATIONS.iter().any(|known| ending == *known));
    let names = std::fs::read_dir(directory).map(|entries| {
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| is_one(path)).collect();
        paths.sort();
        paths
    });
    match names {
        Ok(paths) => match paths.first().and_then(|path| path.file_name()) {
            Some(name) => Finding::ok(CHECK, format!("{place}: the plugin joins the chain of {}", name.display())),
            None => Finding::warning(
                CHECK,
                format!("{place} has none yet"),
                "install a network plugin; sotto joins its chain as soon as it is there",
            ),
        },
        Err(error) => Finding::failed(
            CHECK,
            format!("{place}: {error}"),
            "say with --cni-conf-dir where the container runtime reads its configuration; in a container, mount it there",
        ),
    }
}

fn binaries(directory: &Path) -> Finding {
    const CHECK: &str = "CNI plugins";
    let place = directory.display();
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => Finding::ok(CHECK, format!("{place} is where the plugin goes")),
        Ok(_) => Finding::failed(CHECK, format!("{place} is no directory"), "say with --cni-bin-dir where plugins are"),
        Err(error) => Finding::failed(
            CHECK,
            format!("{place}: {error}"),
            "say with --cni-bin-dir where the container runtime finds its plugins; in a container, mount it there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::diagnose::check::Outcome;

    #[test]
    fn a_port_in_use_is_somebodys() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(port("--admin-addr", address, false).outcome, Outcome::Failed);
        assert_eq!(port("--admin-addr", address, true).outcome, Outcome::Ok);
        drop(taken);
        assert_eq!(port("--admin-addr", address, false).outcome, Outcome::Ok);
        let elsewhere = port("--admin-addr", "192.0.2.1:1".parse().unwrap(), false);
        assert_eq!(elsewhere.outcome, Outcome::Failed);
    }

    #[test]
    fn the_chain_is_looked_for_where_the_runtime_looks() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(configurations(directory.path()).outcome, Outcome::Warning);
        std::fs::write(directory.path().join("README.md"), "").unwrap();
        assert_eq!(configurations(directory.path()).outcome, Outcome::Warning);
        std::fs::write(directory.path().join("10-bridge.conflist"), "").unwrap();
        let found = configurations(directory.path());
        assert!(found.outcome == Outcome::Ok && found.what.ends_with("the chain of 10-bridge.conflist"), "{found:?}");
        assert_eq!(configurations(&directory.path().join("none")).outcome, Outcome::Failed);
        assert_eq!(binaries(directory.path()).outcome, Outcome::Ok);
        assert_eq!(binaries(&directory.path().join("README.md")).outcome, Outcome::Failed);
    }
}
