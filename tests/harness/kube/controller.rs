//! `sotto controller` beside a test: the real program on loopback, as the service account that an installation gives it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::apiserver::ApiServer;
use super::ports::{free, own_loopback};
use crate::agent::binary;
use crate::process::Process;
use crate::wait::{DEADLINE, eventually};

/// The namespace of the controller and of the node agents.
const NAMESPACE: &str = "sotto-system";

/// One replica.
#[derive(Debug)]
pub struct Controller {
    address: SocketAddr,
    admin: SocketAddr,
    process: Process,
    _directory: TempDir,
}

impl Controller {
    /// Makes the namespace and what replicas may do: this and nothing else.
    #[track_caller]
    pub fn install(server: &ApiServer) {
        let meta = |name: &str| json!({ "name": name, "namespace": NAMESPACE });
        let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
        let named = |mut rule: Value, names: &[&str]| {
            rule["resourceNames"] = json!(names);
            rule
        };
        let account = json!([{ "kind": "ServiceAccount", "name": "sotto-controller", "namespace": NAMESPACE }]);
        let api = "rbac.authorization.k8s.io";
        let version = format!("{api}/v1");
        let role = |kind: &str, name: &str| json!({ "apiGroup": api, "kind": kind, "name": name });
        server.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }));
        for name in ["sotto-controller", "sotto-node", "somebody"] {
            server.create(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name) }));
        }
        server.create(&json!({ "apiVersion": version, "kind": "Role", "metadata": meta("sotto-controller"), "rules": [
            named(rule("", &["secrets"], &["get", "update"]), &["sotto-ca"]),
            named(rule("", &["secrets"], &["get"]), &["cacerts"]),
            named(rule("", &["configmaps"], &["get", "update"]), &["sotto-ca-root-cert"]),
            named(rule("coordination.k8s.io", &["leases"], &["get", "update"]), &["sotto-controller"]),
            // What is created cannot be limited by name.
            rule("", &["secrets", "configmaps"], &["create"]),
            rule("coordination.k8s.io", &["leases"], &["create"]),
        ]}));
        server.create(&json!({ "apiVersion": version, "kind": "RoleBinding", "metadata": meta("sotto-controller"),
            "subjects": account, "roleRef": role("Role", "sotto-controller") }));
        server.create(&json!({ "apiVersion": version, "kind": "ClusterRole", "metadata": { "name": "sotto-controller" }, "rules": [
            rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
            rule("", &["pods"], &["list"]),
        ]}));
        server.create(
            &json!({ "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": { "name": "sotto-controller" },
            "subjects": account, "roleRef": role("ClusterRole", "sotto-controller") }),
        );
    }

    /// Starts a replica with these arguments. It may not be ready yet.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(server: &ApiServer, arguments: &[&str]) -> Self {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/sotto-controller/token");
        let token = server.post(
            &path,
            &json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
                "audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 3600,
            }}),
        );
        let token = token["status"]["token"].as_str().expect("the API server makes tokens");
        let directory = tempfile::Builder::new().prefix("sotto-controller-").tempdir().expect("a temporary directory");
        let ip = own_loopback();
        let (address, admin) = (free(ip), free(ip));
        let mut command = Command::new(binary());
        command
            .args(["controller", "--refresh", "500ms", "--lease-duration", "3s"])
            .args(["--listen", &address.to_string(), "--admin-addr", &admin.to_string(), "--kubeconfig"])
            .arg(server.kubeconfig_with(token))
            .args(arguments);
        let process = Process::start_here("sotto controller", &mut command, &directory.path().join("log"));
        Self { address, admin, process, _directory: directory }
    }

    /// Waits until it issues certificates.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_ready(&self) {
        eventually(DEADLINE * 3, "the controller is ready", || {
            assert!(self.process.is_running(), "the controller has ended:\n{}", self.log());
            matches!(self.page("/healthz/ready"), Some((200, _))).then_some(())
        });
    }

    /// Where it issues certificates.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether it is the one that keeps the root.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.page("/metrics").is_some_and(|(_, page)| page.lines().any(|line| line == "sotto_ca_leader 1"))
    }

    /// The metrics page, empty when there is none.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.page("/metrics").map(|(_, page)| page).unwrap_or_default()
    }

    /// Kills it, as a crash would.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        self.process.terminate(DEADLINE)
    }

    fn page(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }
}
