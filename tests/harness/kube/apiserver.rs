//! etcd and kube-apiserver, started from the directory that `SOTTO_KUBE_BIN` names. No root, no network but one address.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::gate::Gate;
use super::ports::{free, own_loopback};
use crate::netns::Netns;
use crate::process::Process;
use crate::wait::eventually;

/// How long an API server may take until it is ready, on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// What every request of the tests shows.
const TOKEN: &str = "0123456789abcdef";

/// A Kubernetes API server with nothing behind it: no controllers, no kubelets.
pub struct ApiServer {
    bin: PathBuf,
    address: SocketAddr,
    etcd: SocketAddr,
    /// The namespace that it runs in; none for the test's own.
    netns: Option<std::sync::Arc<Netns>>,
    runtime: Runtime,
    server: Mutex<Option<Process>>,
    store: Mutex<Option<Process>>,
    directory: TempDir,
}

impl ApiServer {
    /// Starts one on loopback. None, with a line that starts with `skipped:`, where there are no programs for it.
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        Self::start_at(test, own_loopback(), None)
    }

    /// Starts one at this address of a namespace.
    pub(crate) fn start_at(test: &str, ip: IpAddr, netns: Option<std::sync::Arc<Netns>>) -> Option<Self> {
        let Some(bin) = std::env::var_os("SOTTO_KUBE_BIN").map(PathBuf::from) else {
            let _ = writeln!(
                std::io::stdout().lock(),
                "skipped: {test}: needs SOTTO_KUBE_BIN, a directory with etcd and kube-apiserver"
            );
            return None;
        };
        let directory = tempfile::Builder::new().prefix("sotto-api-").tempdir().expect("a temporary directory");
        let within = |action: &dyn Fn() -> SocketAddr| netns.as_ref().map_or_else(action, |netns| netns.run(action));
        let address = within(&|| free(ip));
        let etcd = within(&|| free(ip));
        // Its thread stays where it was made: requests are sent from there.
        let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = netns.as_ref().map_or_else(runtime, |netns| netns.run(runtime)).expect("a runtime can be made");
        let server =
            Self { bin, address, etcd, netns, runtime, server: Mutex::default(), store: Mutex::default(), directory };
        server.prepare();
        server.start_store();
        server.start_server();
        Some(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig for a client that may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_at(self.address)
    }

    /// The same, through a gate.
    #[must_use]
    pub fn kubeconfig_through(&self, gate: &Gate) -> PathBuf {
        self.kubeconfig_at(gate.address())
    }

    /// Creates an object.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn create(&self, object: &Value) -> Value {
        self.create_all(std::slice::from_ref(object)).pop().expect("as many answers as objects")
    }

    /// Creates objects, some at a time; their `status` is written, too.
    ///
    /// # Panics
    /// When the server refuses one.
    #[track_caller]
    pub fn create_all(&self, objects: &[Value]) -> Vec<Value> {
        let objects = objects.to_vec();
        let created = self.run(move |client: Client| async move {
            let mut answers = Vec::new();
            for batch in objects.chunks(16) {
                let creating = batch.iter().map(|object| create(&client, object));
                answers.extend(futures_util::future::join_all(creating).await);
            }
            answers
        });
        created.into_iter().map(|answer| answer.unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    /// Merges `patch` into the object at `path` (`/api/v1/namespaces/demo`).
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.ask(Method::PATCH, path, Some(patch))
    }

    /// Removes the object at `path`, at once.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        self.ask(Method::DELETE, &format!("{path}?gracePeriodSeconds=0"), None);
    }

    /// The object, or the list, at `path`.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, None)
    }

    /// Sends `body` to `path`, for what is not an object of a collection.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.ask(Method::POST, path, Some(body))
    }

    /// A kubeconfig for the owner of this token.
    #[must_use]
    pub fn kubeconfig_with(&self, token: &str) -> PathBuf {
        let text = fs::read_to_string(self.kubeconfig()).expect("the kubeconfig was just written");
        let mut config: Value = serde_json::from_str(&text).expect("the kubeconfig is ours");
        config["users"][0]["user"]["token"] = token.into();
        let number = fs::read_dir(self.directory.path()).map_or(0, Iterator::count);
        let path = self.path(format!("kubeconfig-of-{number}"));
        fs::write(&path, config.to_string()).expect("a file in the temporary directory");
        path
    }

    /// Ends the API server; what it stores stays.
    pub fn stop_server(&self) {
        lock(&self.server).take();
    }

    /// Starts it (again), and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn start_server(&self) {
        let mut command = Command::new(self.bin.join("kube-apiserver"));
        let (ip, port) = (self.address.ip(), self.address.port());
        command.current_dir(self.directory.path()).args([
            &format!("--etcd-servers=http://{}", self.etcd),
            &format!("--bind-address={ip}"),
            &format!("--secure-port={port}"),
            "--cert-dir=certs",
            "--endpoint-reconciler-type=none",
            "--advertise-address=192.0.2.1",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-signing-key-file=sa.key",
            "--service-account-key-file=sa.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            // Nobody makes service accounts and their tokens here.
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ]);
        *lock(&self.server) = Some(self.spawn("kube-apiserver", &mut command));
        eventually(READY, "the API server is ready", || {
            let running = lock(&self.server).as_ref().is_some_and(Process::is_running);
            assert!(running, "the API server has ended:\n{}", tail(&self.log("kube-apiserver")));
            let stored = lock(&self.store).as_ref().is_some_and(Process::is_running);
            assert!(stored, "etcd has ended:\n{}", tail(&self.log("etcd")));
            if !self.path("certs/apiserver.crt").exists() {
                return None;
            }
            let ready = Request::get("/readyz").body(Vec::new()).expect("a request");
            let answer = self.run(move |client: Client| async move { client.request_text(ready).await });
            matches!(answer.as_deref(), Ok("ok")).then_some(())
        });
    }

    /// Makes etcd forget all but the newest revision of everything.
    ///
    /// # Panics
    /// When etcd refuses.
    #[track_caller]
    pub fn compact(&self) {
        let range = self.ask_etcd("/v3/kv/range", &json!({ "key": "AA==" }));
        let revision = range["header"]["revision"].as_str().expect("etcd tells its revision").to_owned();
        self.ask_etcd("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }));
    }

    fn prepare(&self) {
        fs::write(self.path("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n")).expect("a file");
        let key = Command::new("openssl").args(["genrsa", "-out"]).arg(self.path("sa.key")).args(["2048"]).output();
        let key = key.expect("openssl can be started");
        assert!(key.status.success(), "openssl: {}", String::from_utf8_lossy(&key.stderr));
    }

    fn start_store(&self) {
        let etcd = self.netns.as_ref().map_or_else(|| free(self.etcd.ip()), |netns| netns.run(|| free(self.etcd.ip())));
        let (client, peer) = (format!("http://{}", self.etcd), format!("http://{etcd}"));
        let mut command = Command::new(self.bin.join("etcd"));
        command.args(["--name=t", "--unsafe-no-fsync"]).args([
            format!("--data-dir={}", self.path("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=t={peer}"),
        ]);
        *lock(&self.store) = Some(self.spawn("etcd", &mut command));
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Process {
        let log = self.path(format!("{name}.log"));
        match &self.netns {
            Some(netns) => Process::start(name, netns, command, &log),
            None => Process::start_here(name, command, &log),
        }
    }

    /// Runs requests on the runtime's own thread.
    fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: impl FnOnce(Client) -> F + Send + 'static,
    ) -> T {
        let path = self.kubeconfig();
        let working = self.runtime.spawn(async move {
            let kubeconfig = Kubeconfig::read_from(path).expect("the kubeconfig is ours");
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            let mut config = config.expect("the kubeconfig is ours");
            // It repeats also what may have been carried out: an object that was just made "exists already".
            config.default_retry = false;
            let client = Client::try_from(config);
            work(client.expect("a client for a good configuration")).await
        });
        self.runtime.block_on(working).expect("requests do not panic")
    }

    #[track_caller]
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (path, body) = (path.to_owned(), body.cloned());
        let answer = self.run(move |client: Client| async move { send(&client, method, &path, body.as_ref()).await });
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn ask_etcd(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.etcd)?;
            let (host, length) = (self.etcd, body.len());
            write!(stream, "POST {path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.netns.as_ref().map_or_else(exchange, |netns| netns.run(exchange));
        let answer = answer.unwrap_or_else(|error| panic!("etcd {path}: {error}"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.contains(" 200 "), "etcd {path}: {answer}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("etcd {path}: {error}: {body}"))
    }

    fn kubeconfig_at(&self, address: SocketAddr) -> PathBuf {
        let certificate = self.path("certs/apiserver.crt");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {
                "server": format!("https://{address}"), "certificate-authority": certificate,
            }}],
            "users": [{"name": "t", "user": {"token": TOKEN}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        });
        let path = self.path(format!("kubeconfig-{}", address.port()));
        fs::write(&path, config.to_string()).expect("a file in the temporary directory");
        path
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(format!("{name}.log"))).unwrap_or_default()
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // Without etcd the API server takes long to end.
        self.stop_server();
        lock(&self.store).take();
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Creates an object, and its status where it has one.
async fn create(client: &Client, object: &Value) -> Result<Value, String> {
    let path = collection(object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let created = match send(client, Method::POST, &path, Some(object)).await {
        // Whether it was carried out is open: a busy server says so when its time for an answer is over.
        Err(error) if error.contains("code: 504") => send(client, Method::GET, &format!("{path}/{name}"), None).await,
        answer => answer,
    }?;
    if object.get("status").is_none() {
        return Ok(created);
    }
    let path = format!("{path}/{name}/status");
    send(client, Method::PATCH, &path, Some(&json!({ "status": object["status"] }))).await
}

async fn send(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
    let begun = Instant::now();
    let text = loop {
        let request = Request::builder().method(&method).uri(path).header("content-type", content);
        let request = request.body(body.clone()).map_err(|error| error.to_string())?;
        match client.request_text(request).await {
            // Not now, and nothing was done: what a kind is stored in is being made, for example.
            Err(kube::Error::Api(status)) if [429, 503].contains(&status.code) && begun.elapsed() < READY => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => break answer.map_err(|error| format!("{method} {path}: {error}"))?,
        }
    };
    serde_json::from_str(&text).map_err(|error| format!("{method} {path}: {error}: {text}"))
}

/// Where objects like this one are.
fn collection(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    let group = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let kind = text("/kind").to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    match text("/metadata/namespace") {
        "" => format!("{group}/{plural}"),
        namespace => format!("{group}/namespaces/{namespace}/{plural}"),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
