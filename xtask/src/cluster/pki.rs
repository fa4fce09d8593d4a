//! The cluster's own authority, and the certificates and kubeconfigs of its parts, made with openssl.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::json;

use super::network::{API_SERVICE, HOST, Place};
use super::state::State;
use crate::process::Task;
use crate::workspace::on_path;

/// Days: a cluster for tests is gone long before.
const LIFETIME: &str = "30";

/// Writes what is missing.
pub(super) struct Pki<'a> {
    state: &'a State,
    server: String,
}

impl<'a> Pki<'a> {
    /// The authority and what the control plane needs. `server` is the API server's address as kubeconfigs have it.
    pub(super) fn prepare(state: &'a State, server: String) -> Result<Self> {
        if on_path("openssl").is_none() {
            bail!("the program openssl is missing: install the package of that name");
        }
        let pki = Self { state, server };
        pki.authority()?;
        pki.service_account_key()?;
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        let addresses = [Ipv4Addr::LOCALHOST, HOST, API_SERVICE];
        let names = names.iter().map(|name| format!("DNS:{name}"));
        let all: Vec<_> = names.chain(addresses.iter().map(|address| format!("IP:{address}"))).collect();
        pki.certificate("apiserver", "/CN=kube-apiserver", Use::Server(&all.join(",")))?;
        pki.certificate("front-proxy", "/CN=front-proxy-client", Use::Client)?;
        pki.certificate("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client", Use::Client)?;
        pki.client("admin", "/O=system:masters/CN=admin")?;
        for part in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            pki.client(part, &format!("/CN=system:{part}"))?;
        }
        Ok(pki)
    }

    /// What a node's kubelet needs: one certificate to call with, one to be called by.
    pub(super) fn node(&self, place: Place) -> Result<()> {
        let name = place.name();
        self.client(&name, &format!("/O=system:nodes/CN=system:node:{name}"))?;
        let names = format!("DNS:{name},IP:{}", place.address());
        self.certificate(&format!("kubelet-{name}"), &format!("/CN={name}"), Use::Server(&names))
    }

    fn authority(&self) -> Result<()> {
        if self.has("ca.crt") {
            return Ok(());
        }
        let mut command = self.request("ca", "/CN=sotto-test-cluster");
        command.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]);
        Task::new("make the cluster's authority", command).output().map(|_| ())
    }

    /// RSA, as every installer makes it: tokens are then RS256, which every client reads.
    fn service_account_key(&self) -> Result<()> {
        if self.has("sa.pub") {
            return Ok(());
        }
        let (key, public) = (self.state.pki("sa.key"), self.state.pki("sa.pub"));
        let mut private = Command::new("openssl");
        private.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]).arg(&key);
        Task::new("make the key of service accounts", private).output()?;
        let mut extract = Command::new("openssl");
        extract.args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public);
        Task::new("extract the public key of service accounts", extract).output().map(|_| ())
    }

    /// A client certificate and a kubeconfig that uses it.
    fn client(&self, name: &str, subject: &str) -> Result<()> {
        self.certificate(name, subject, Use::Client)?;
        let file = |name: &str| self.state.pki(name).display().to_string();
        let (certificate, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "sotto",
            "clusters": [{"name": "sotto", "cluster": {"server": self.server, "certificate-authority": file("ca.crt")}}],
            "users": [{"name": name, "user": {"client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": "sotto", "context": {"cluster": "sotto", "user": name}}],
        });
        Ok(fs::write(self.state.pki(&format!("{name}.conf")), config.to_string())?)
    }

    fn certificate(&self, name: &str, subject: &str, purpose: Use<'_>) -> Result<()> {
        if self.has(&format!("{name}.crt")) {
            return Ok(());
        }
        let mut command = self.request(name, subject);
        command.arg("-CA").arg(self.state.pki("ca.crt")).arg("-CAkey").arg(self.state.pki("ca.key"));
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.args(["-addext", "keyUsage=critical,digitalSignature"]);
        match purpose {
            Use::Client => command.args(["-addext", "extendedKeyUsage=clientAuth"]),
            Use::Server(names) => command
                .args(["-addext", "extendedKeyUsage=serverAuth", "-addext"])
                .arg(format!("subjectAltName={names}")),
        };
        Task::new(format!("make the certificate of {name}"), command)
            .remedy("openssl 3.0 or newer is needed")
            .output()
            .map(|_| ())
    }

    fn request(&self, name: &str, subject: &str) -> Command {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-days", LIFETIME, "-subj", subject]);
        command.arg("-keyout").arg(self.state.pki(&format!("{name}.key")));
        command.arg("-out").arg(self.state.pki(&format!("{name}.crt")));
        command
    }

    fn has(&self, name: &str) -> bool {
        self.state.pki(name).metadata().is_ok_and(|file| file.len() > 0)
    }
}

/// What a certificate is for.
enum Use<'a> {
    /// Calling.
    Client,
    /// Being called, by these names and addresses.
    Server(&'a str),
}
