//! An API server of a test's own, on loopback, that can go away and come back.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::kubectl::{Kubectl, PROGRAMS};
use crate::wait::eventually;

/// From the start to an answer; generous, for a machine with other work.
const START: Duration = Duration::from_secs(90);
/// Who tokens of service accounts are issued by, and for.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The administrator's. The server listens on loopback and lives as long as a test.
const TOKEN: &str = "sotto-tests-admin";

/// etcd, kube-apiserver and, where asked for, kube-controller-manager. They end when the value goes out of scope.
#[derive(Debug)]
pub struct ApiServer {
    programs: PathBuf,
    ports: [u16; 4],
    kubectl: Kubectl,
    controlled: bool,
    controllers: Option<Running>,
    server: Option<Running>,
    etcd: Option<Running>,
    /// Last: the others write into it.
    folder: TempDir,
}

#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ApiServer {
    /// etcd and an API server. `None`, with a line that starts with `skipped:`, where the programs are not prepared.
    ///
    /// # Panics
    /// When they do not start.
    #[track_caller]
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        let mut server = Self::prepare(test)?;
        server.etcd = Some(server.run("etcd", &server.etcd_arguments()));
        server.resume();
        Some(server)
    }

    /// The same with a controller manager: service accounts, endpoints, the end of namespaces.
    ///
    /// # Panics
    /// When they do not start.
    #[track_caller]
    #[must_use]
    pub fn start_with_controllers(test: &str) -> Option<Self> {
        let mut server = Self::prepare(test)?;
        server.controlled = true;
        server.etcd = Some(server.run("etcd", &server.etcd_arguments()));
        server.resume();
        server.controllers = Some(server.run("kube-controller-manager", &server.controller_arguments()));
        eventually(START, "the controller manager makes service accounts", || {
            server.kubectl.attempt(&["-n", "default", "get", "serviceaccount", "default"]).ok()
        });
        Some(server)
    }

    #[track_caller]
    fn prepare(test: &str) -> Option<Self> {
        let Some(programs) = std::env::var_os(PROGRAMS).map(PathBuf::from) else {
            let why = format!("{PROGRAMS} is not set: `cargo xtask test api` sets it");
            let _ = writeln!(std::io::stdout().lock(), "skipped: {test}: {why}");
            return None;
        };
        let folder =
            tempfile::Builder::new().prefix("sotto-api-").tempdir().expect("a temporary directory can be made");
        let key = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(folder.path().join("sa.key"))
            .status();
        assert!(key.is_ok_and(|status| status.success()), "openssl makes no key");
        fs::write(folder.path().join("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n")).expect("writable");
        let kubectl = Kubectl::new(&folder.path().join("kubeconfig"));
        let ports = free_ports();
        Some(Self { programs, ports, kubectl, controlled: false, controllers: None, server: None, etcd: None, folder })
    }

    /// kubectl as administrator.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.kubectl.kubeconfig()
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0])
    }

    /// Ends the API server at once. What it has stored is kept.
    pub fn crash(&mut self) {
        self.server = None;
    }

    /// Starts the API server again, at the same address, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn resume(&mut self) {
        self.server = Some(self.run("kube-apiserver", &self.server_arguments()));
        self.write_kubeconfig();
        eventually(START, "the API server is ready", || {
            // A certificate of its own is made during the first start.
            let ready = self.kubectl.attempt(&["get", "--raw", "/readyz", "--request-timeout=5s"]);
            ready.ok().filter(|answer| answer == "ok")
        });
    }

    fn etcd_arguments(&self) -> Vec<String> {
        let [_, client, peer, _] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let words = [
            ("name", "test"),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
            ("initial-cluster", &format!("test={peer}")),
            ("data-dir", "etcd"),
            ("log-level", "warn"),
        ];
        let mut arguments: Vec<_> = words.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        arguments.push("--unsafe-no-fsync".into());
        arguments
    }

    fn server_arguments(&self) -> Vec<String> {
        let mut words = vec![
            ("etcd-servers", format!("http://127.0.0.1:{}", self.ports[1])),
            ("secure-port", self.ports[0].to_string()),
            ("bind-address", "127.0.0.1".into()),
            ("cert-dir", "certs".into()),
            // Endpoints of the Service `kubernetes` must not be loopback; nobody needs them here.
            ("endpoint-reconciler-type", "none".into()),
            ("advertise-address", "192.0.2.1".into()),
            ("token-auth-file", "tokens.csv".into()),
            ("authorization-mode", "RBAC".into()),
            ("service-account-issuer", ISSUER.into()),
            ("api-audiences", ISSUER.into()),
            ("service-account-signing-key-file", "sa.key".into()),
            ("service-account-key-file", "sa.key".into()),
            ("service-cluster-ip-range", "10.96.0.0/16".into()),
            ("feature-gates", "BoundServiceAccountTokenVolume=true".into()),
            ("allow-privileged", "true".into()),
            ("profiling", "false".into()),
        ];
        if !self.controlled {
            // Nobody makes the default service accounts that every pod would be refused without.
            words.push(("disable-admission-plugins", "ServiceAccount".into()));
        }
        words.iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    fn controller_arguments(&self) -> Vec<String> {
        let words = [
            ("kubeconfig", "kubeconfig".into()),
            ("leader-elect", "false".into()),
            ("port", "0".into()),
            ("bind-address", "127.0.0.1".into()),
            ("secure-port", self.ports[3].to_string()),
            ("cert-dir", "certs".into()),
            ("use-service-account-credentials", "true".into()),
            ("service-account-private-key-file", "sa.key".into()),
            ("root-ca-file", "certs/apiserver.crt".into()),
            ("feature-gates", "BoundServiceAccountTokenVolume=true".into()),
            ("flex-volume-plugin-dir", "volume-plugins".into()),
        ];
        words.iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    fn run(&self, program: &str, arguments: &[String]) -> Running {
        let log = self.folder.path().join(format!("{program}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("a log can be written");
        let copy = output.try_clone().expect("a file can be opened twice");
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(copy).stderr(output);
        Running(command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}")))
    }

    fn write_kubeconfig(&self) {
        let certificate = self.folder.path().join("certs/apiserver.crt");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url(), "certificate-authority": certificate}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        });
        fs::write(self.kubeconfig(), config.to_string()).expect("the test's own folder is writable");
    }
}

fn free_ports() -> [u16; 4] {
    // All are held until all are known: the kernel may give one out twice otherwise.
    let open = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let listeners = [0; 4].map(open);
    listeners.map(|listener| listener.local_addr().expect("a listener has an address").port())
}
