//! Settings of the way to a cluster's certificate authority, for every role that runs a node agent.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

use crate::control::authority::remote;

/// Where the certificate authority of a cluster is: `sotto controller`, istiod or whatever else serves Istio's certificate service.
#[derive(Args, Debug)]
pub struct CaArgs {
    /// The cluster's certificate authority (`sotto controller`, or istiod at istiod.istio-system.svc:15012)
    #[arg(long, env = "CA_ADDRESS", value_name = "HOST:PORT")]
    pub ca_address: Option<String>,

    /// The name in the authority's own certificate [default: the host of --ca-address]
    #[arg(long, value_name = "NAME", requires = "ca_address")]
    pub ca_server_name: Option<String>,

    /// File of the roots that the authority's own certificate is checked against, PEM; read again at every connection
    #[arg(long, value_name = "FILE", default_value = "/var/run/secrets/istio/root-cert.pem")]
    pub ca_root: PathBuf,

    /// File of the token to show to the authority, a projected service account token whose audience the authority accepts
    /// (istio-ca); read again at every call
    #[arg(long, value_name = "FILE", default_value = "/var/run/secrets/tokens/istio-token")]
    pub ca_token: PathBuf,

    /// The cluster's name as the authority knows it
    #[arg(long, env = "CLUSTER_ID", value_name = "NAME", default_value = "Kubernetes")]
    pub ca_cluster_id: String,
}

/// Checks the flags. `None` without `--ca-address`.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: CaArgs) -> anyhow::Result<Option<remote::Config>> {
    let CaArgs { ca_address, ca_server_name, ca_root, ca_token, ca_cluster_id } = args;
    let Some(address) = ca_address else { return Ok(None) };
    let host = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    ensure!(host.is_some(), "--ca-address {address:?}: give HOST:PORT");
    let host = host.map_or("", |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
    let printable = !ca_cluster_id.is_empty() && ca_cluster_id.bytes().all(|b| b.is_ascii_graphic());
    ensure!(printable, "--ca-cluster-id {ca_cluster_id:?}: give a name of visible ASCII characters");
    let server_name = ca_server_name.unwrap_or_else(|| host.to_owned());
    Ok(Some(remote::Config { address, server_name, roots: ca_root, token: ca_token, cluster: ca_cluster_id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: Option<&str>, name: Option<&str>) -> anyhow::Result<Option<remote::Config>> {
        let own = |text: &str| text.to_owned();
        config(CaArgs {
            ca_address: address.map(own),
            ca_server_name: name.map(own),
            ca_root: PathBuf::new(),
            ca_token: PathBuf::new(),
            ca_cluster_id: own("c"),
        })
    }

    #[test]
    fn the_servers_name_is_the_host_unless_given() {
        let name = |address, name| read(Some(address), name).unwrap().unwrap().server_name;
        assert_eq!(name("ca.mesh.svc:15012", None), "ca.mesh.svc");
        assert_eq!(name("[::1]:15012", None), "::1");
        assert_eq!(name("127.0.0.1:15012", Some("ca.mesh.svc")), "ca.mesh.svc");
        assert!(read(None, None).unwrap().is_none());
        for wrong in ["ca", "ca:", ":15012", "ca:https", "ca:70000"] {
            assert!(read(Some(wrong), None).is_err(), "{wrong}");
        }
    }
}
