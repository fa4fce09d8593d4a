//! etcd, API server, controller manager and scheduler: the same whether nodes follow or not.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::daemon::{Daemon, await_condition};
use super::kubectl::Kubectl;
use super::network::{HOST, PODS, SERVICES};
use super::programs::Programs;
use super::state::{Settings, State};

/// What tokens of service accounts are issued by, and for.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Pods get projected tokens with an audience and an end, as every later release gives them.
const GATES: &str = "--feature-gates=BoundServiceAccountTokenVolume=true";
/// Whose requests are in the log `audit`.
const AUDITED: &str = "system:serviceaccounts:sotto-system";
const AUDIT_POLICY: &str = "audit-policy.json";
/// The API server's port where it has an address of its own.
const API_PORT: u16 = 6443;

/// How many ports of 127.0.0.1 a control plane needs.
pub(super) const PORTS: usize = 5;
/// What it is made of, in the order in which it ends: the API server ends slowly without its etcd.
pub(super) const PARTS: [&str; 4] = ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"];

/// Starts the parts.
pub(super) struct ControlPlane<'a> {
    state: &'a State,
    programs: &'a Programs,
    settings: &'a Settings,
}

impl<'a> ControlPlane<'a> {
    /// Of the cluster in `state`.
    pub(super) fn new(state: &'a State, programs: &'a Programs, settings: &'a Settings) -> Self {
        Self { state, programs, settings }
    }

    /// The API server's address: on the bridge when there are nodes, else on loopback.
    pub(super) fn server(settings: &Settings) -> String {
        let (address, port) = api_address(settings);
        format!("https://{address}:{port}")
    }

    /// Starts etcd and the API server and waits until it is ready.
    pub(super) fn start_api(&self, kubectl: &Kubectl) -> Result<()> {
        self.write_audit_policy()?;
        let etcd = Daemon::start(self.state, "etcd", self.etcd())?;
        let server = Daemon::start(self.state, "kube-apiserver", self.api_server())?;
        await_condition(Duration::from_secs(120), || {
            // One that has ended never gets ready.
            if !etcd.runs() || !server.runs() {
                return Ok(());
            }
            kubectl.ready()
        })?;
        etcd.check(self.state)?;
        server.check(self.state)
    }

    /// Starts the controller manager, and the scheduler where there is something to schedule on.
    pub(super) fn start_controllers(&self) -> Result<()> {
        Daemon::start(self.state, "kube-controller-manager", self.controller_manager())?;
        if self.settings.nodes > 0 {
            Daemon::start(self.state, "kube-scheduler", self.scheduler())?;
        }
        Ok(())
    }

    fn etcd(&self) -> Command {
        let client = format!("http://127.0.0.1:{}", self.settings.ports[1]);
        let peer = format!("http://127.0.0.1:{}", self.settings.ports[2]);
        let mut command = Command::new(self.programs.path("etcd"));
        // Durability is for clusters that somebody would miss.
        command.args(["--name", "sotto", "--unsafe-no-fsync", "--data-dir"]).arg(self.state.dir().join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("sotto={peer}"), "--log-level", "warn"]);
        command
    }

    fn api_server(&self) -> Command {
        let (address, port) = api_address(self.settings);
        let mut command = Command::new(self.programs.path("kube-apiserver"));
        command.arg(format!("--etcd-servers=http://127.0.0.1:{}", self.settings.ports[1]));
        command.arg(format!("--bind-address={address}")).arg(format!("--secure-port={port}"));
        if self.settings.nodes == 0 {
            // Endpoints must not be loopback: there, no address of the Service `kubernetes` is published at all.
            command.args(["--endpoint-reconciler-type=none", "--advertise-address=192.0.2.1"]);
        } else {
            command.arg(format!("--advertise-address={HOST}"));
        }
        for (flag, file) in [
            ("tls-cert-file", "apiserver.crt"),
            ("tls-private-key-file", "apiserver.key"),
            ("client-ca-file", "ca.crt"),
            ("kubelet-certificate-authority", "ca.crt"),
            ("kubelet-client-certificate", "apiserver-kubelet.crt"),
            ("kubelet-client-key", "apiserver-kubelet.key"),
            ("requestheader-client-ca-file", "ca.crt"),
            ("proxy-client-cert-file", "front-proxy.crt"),
            ("proxy-client-key-file", "front-proxy.key"),
            ("service-account-signing-key-file", "sa.key"),
            ("service-account-key-file", "sa.pub"),
        ] {
            command.arg(format!("--{flag}={}", self.state.pki(file).display()));
        }
        command
            .args(["--kubelet-preferred-address-types=InternalIP", "--requestheader-allowed-names=front-proxy-client"]);
        command
            .args(["--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group"]);
        command.arg("--requestheader-extra-headers-prefix=X-Remote-Extra-");
        command.arg(format!("--service-account-issuer={ISSUER}")).arg(format!("--api-audiences={ISSUER}"));
        command.arg(format!("--service-cluster-ip-range={SERVICES}"));
        command.args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", GATES]);
        command.arg("--audit-policy-file").arg(self.state.dir().join(AUDIT_POLICY));
        command.arg("--audit-log-path").arg(self.state.log("audit"));
        // It calls webhooks at their endpoints' addresses: nothing translates Service addresses for it.
        command.args(["--enable-aggregator-routing=true", "--allow-privileged=true", "--profiling=false"]);
        command
    }

    /// What sotto's own service accounts ask for is written down, so that tests can hold it against their rights.
    fn write_audit_policy(&self) -> Result<()> {
        let place = self.state.dir().join(AUDIT_POLICY);
        let own = json!({"level": "Metadata", "userGroups": [AUDITED], "omitStages": ["RequestReceived"]});
        let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [own, {"level": "None"}]});
        fs::write(&place, policy.to_string()).with_context(|| format!("cannot write {}", place.display()))
    }

    fn controller_manager(&self) -> Command {
        let mut command = self.controller("kube-controller-manager", self.settings.ports[3]);
        command.args(["--use-service-account-credentials=true", GATES]);
        for (flag, file) in [
            ("root-ca-file", "ca.crt"),
            ("service-account-private-key-file", "sa.key"),
            ("cluster-signing-cert-file", "ca.crt"),
            ("cluster-signing-key-file", "ca.key"),
        ] {
            command.arg(format!("--{flag}={}", self.state.pki(file).display()));
        }
        // Ranges of pods are fixed for each node: allocating them would hold up every controller for ten seconds.
        command.arg(format!("--cluster-cidr={PODS}"));
        command.args(["--node-monitor-grace-period=20s", "--pod-eviction-timeout=30s"]);
        // It would make the default folder in the machine's /usr.
        command.arg("--flex-volume-plugin-dir").arg(self.state.dir().join("volume-plugins"));
        command
    }

    fn scheduler(&self) -> Command {
        self.controller("kube-scheduler", self.settings.ports[4])
    }

    fn controller(&self, name: &str, port: u16) -> Command {
        let mut command = Command::new(self.programs.path(name));
        let config = self.state.pki(&format!("{name}.conf"));
        for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{flag}={}", config.display()));
        }
        command.args(["--leader-elect=false", "--bind-address=127.0.0.1", "--port=0"]);
        command.arg(format!("--secure-port={port}")).arg("--cert-dir").arg(self.state.dir().join("pki"));
        command
    }
}

fn api_address(settings: &Settings) -> (Ipv4Addr, u16) {
    if settings.nodes == 0 { (Ipv4Addr::LOCALHOST, settings.ports[0]) } else { (HOST, API_PORT) }
}
