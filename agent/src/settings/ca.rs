//! Settings of the way to a cluster's certificate authority, for every role that runs a node agent.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;

use crate::control::authority::remote;
use crate::roles::authority::AuthorityChoice;

/// Who signs certificates: this process, or `sotto controller`, istiod or whatever else serves Istio's certificate service.
#[derive(Args, Debug)]
pub struct CaArgs {
    /// Directory of the certificate authority (root-cert.pem ca-cert.pem ca-key.pem cert-chain.pem): used if they are there,
    /// created otherwise; nodes that share it trust each other
    #[arg(long, value_name = "DIR", required_unless_present = "ca_address", conflicts_with = "ca_address")]
    pub ca_dir: Option<PathBuf>,

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

/// Checks the flags.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: CaArgs) -> anyhow::Result<AuthorityChoice> {
    let CaArgs { ca_dir, ca_address, ca_server_name, ca_root, ca_token, ca_cluster_id } = args;
    let address = match (ca_dir, ca_address) {
        (Some(directory), None) => return Ok(AuthorityChoice::Directory(directory)),
        (None, Some(address)) => address,
        (Some(_), Some(_)) | (None, None) => bail!("give either --ca-dir or --ca-address"),
    };
    let host = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    ensure!(host.is_some(), "--ca-address {address:?}: give HOST:PORT");
    let host = host.map_or("", |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
    let printable = !ca_cluster_id.is_empty() && ca_cluster_id.bytes().all(|b| b.is_ascii_graphic());
    ensure!(printable, "--ca-cluster-id {ca_cluster_id:?}: give a name of visible ASCII characters");
    let server_name = ca_server_name.unwrap_or_else(|| host.to_owned());
    let (roots, token) = (ca_root, ca_token);
    Ok(AuthorityChoice::Remote(remote::Config { address, server_name, roots, token, cluster: ca_cluster_id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(directory: Option<&str>, address: Option<&str>, name: Option<&str>) -> anyhow::Result<AuthorityChoice> {
        config(CaArgs {
            ca_dir: directory.map(PathBuf::from),
            ca_address: address.map(str::to_owned),
            ca_server_name: name.map(str::to_owned),
            ca_root: PathBuf::new(),
            ca_token: PathBuf::new(),
            ca_cluster_id: "c".to_owned(),
        })
    }

    fn name(address: &str, name: Option<&str>) -> String {
        match read(None, Some(address), name) {
            Ok(AuthorityChoice::Remote(config)) => config.server_name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_servers_name_is_the_host_unless_given() {
        assert_eq!(name("ca.mesh.svc:15012", None), "ca.mesh.svc");
        assert_eq!(name("[::1]:15012", None), "::1");
        assert_eq!(name("127.0.0.1:15012", Some("ca.mesh.svc")), "ca.mesh.svc");
        for wrong in ["ca", "ca:", ":15012", "ca:https", "ca:70000"] {
            assert!(read(None, Some(wrong), None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_authority_is_here_or_there() {
        assert!(matches!(read(Some("/ca"), None, None), Ok(AuthorityChoice::Directory(_))));
        assert!(read(Some("/ca"), Some("ca:1"), None).is_err());
        assert!(read(None, None, None).is_err());
    }
}
