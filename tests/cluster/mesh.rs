//! sotto, installed from `deploy/` as users install it: pods join by their namespace's label, talk, and leave.

use std::path::Path;
use std::time::Duration;

use harness::kube::{Cluster, KubePod, Kubectl};
use harness::{DEADLINE, Marker, eventually, holds_for};
use serde_json::{Value, json};

const SYSTEM: &str = "sotto-system";
const AMBIENT: &str = "istio.io/dataplane-mode";
const REDIRECTION: &str = "ambient.istio.io/redirection";

/// Programs from source to a pod that is ready; generous, for a machine with other work.
const ROLLOUT: &str = "--timeout=180s";

/// How long the cluster may take for what it does by itself.
const SETTLE: Duration = Duration::from_secs(90);

/// The mesh in the cluster. It goes when this does.
struct Installed<'a> {
    cluster: &'a Cluster,
    gone: bool,
}

impl<'a> Installed<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let installed = Self { cluster, gone: false };
        cluster.kubectl().run(&["apply", "-k", &deploy()]);
        installed.wait_ready();
        installed
    }

    fn wait_ready(&self) {
        for part in ["deployment/sotto-controller", "daemonset/sotto-node"] {
            let status = self.cluster.kubectl().attempt(&["-n", SYSTEM, "rollout", "status", part, ROLLOUT]);
            assert!(status.is_ok(), "{part}: {status:?}\n{}", self.logs());
        }
    }

    fn logs(&self) -> String {
        let kubectl = self.cluster.kubectl();
        let told = kubectl.attempt(&["-n", SYSTEM, "describe", "pods"]);
        let logs = ["app.kubernetes.io/name=sotto-node", "app.kubernetes.io/name=sotto-controller"]
            .map(|label| kubectl.attempt(&["-n", SYSTEM, "logs", "-l", label, "--tail=40", "--prefix"]));
        format!("{told:?}\n{logs:?}").replace("\\n", "\n")
    }

    fn remove(mut self) {
        self.gone = true;
        self.cluster.kubectl().run(&["delete", "-k", &deploy(), "--ignore-not-found", "--timeout=120s"]);
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        eprint!("{}", self.logs());
        let _ = self.cluster.kubectl().attempt(&["delete", "-k", &deploy(), "--ignore-not-found", "--timeout=120s"]);
    }
}

fn deploy() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/install").display().to_string()
}

/// What must not change when a pod joins or leaves: which pod it is, its containers, and how often they were started.
fn life(pod: &KubePod) -> Value {
    let object = pod.object();
    let status = &object["status"]["containerStatuses"][0];
    json!([object["metadata"]["uid"], status["containerID"], status["restartCount"]])
}

fn wait_marked(pods: &[&KubePod], marked: bool) {
    for pod in pods {
        let what = format!("the annotation of {} tells that it is carried: {marked}", pod.name);
        eventually(SETTLE, &what, || {
            let is_marked = pod.object()["metadata"]["annotations"][REDIRECTION] == "enabled";
            (is_marked == marked).then_some(())
        });
    }
}

fn label(kubectl: &Kubectl, namespace: &str, mode: &str) {
    kubectl.run(&["label", "namespace", namespace, &format!("{AMBIENT}{mode}"), "--overwrite"]);
}

/// A script that serves `text` on port 8080.
fn serve(text: &Marker) -> String {
    format!("mkdir -p /tmp/www && echo {} >/tmp/www/index.html && exec httpd -f -v -p 8080 -h /tmp/www", text.as_str())
}

/// Adds a probe of each kind that busybox can answer; one failure is one too many.
fn probed(pod: &mut Value) {
    let container = &mut pod["spec"]["containers"][0];
    let often = |mut probe: Value| {
        probe["periodSeconds"] = json!(1);
        probe["failureThreshold"] = json!(2);
        probe["timeoutSeconds"] = json!(5);
        probe
    };
    container["readinessProbe"] = often(json!({"httpGet": {"path": "/", "port": 8080}}));
    container["livenessProbe"] = often(json!({"tcpSocket": {"port": 8080}, "initialDelaySeconds": 2}));
}

/// Asks once, and says whether the answer came.
fn ask(pod: &KubePod, of: &KubePod) -> bool {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {} 8080 | grep -q 200", of.ip);
    pod.attempt(&script).is_ok()
}

#[test]
fn pods_join_by_label_talk_and_leave_without_a_restart() {
    let Some(cluster) = Cluster::of_tier("pods_join_by_label_talk_and_leave_without_a_restart") else { return };
    let (kubectl, nodes) = (cluster.kubectl(), cluster.nodes());
    let before: Vec<_> = nodes.iter().map(|node| conf(&node.folder)).collect();
    let secret = Marker::new();
    let namespace = kubectl.namespace("meshed", &json!({}));
    let outside = kubectl.namespace("outside", &json!({}));
    let server = cluster.run_pod(&namespace, "server", &nodes[1].name, &serve(&secret), probed);
    let client = cluster.run_pod(&namespace, "client", &nodes[0].name, "sleep 100000", |_| {});
    let stranger = cluster.run_pod(&outside, "stranger", &nodes[0].name, "sleep 100000", |_| {});
    let lives = [&client, &server].map(life);

    let capture = cluster.capture();
    assert_eq!(client.fetch(server.ip, 8080), secret.as_str());
    capture.stop().assert_clear_text_seen(&secret);

    let mesh = Installed::new(&cluster);
    label(kubectl, namespace.name(), "=ambient");
    wait_marked(&[&client, &server], true);
    let capture = cluster.capture();
    assert_eq!(client.fetch(server.ip, 8080), secret.as_str());
    // A pod that is born into the mesh, and whose first act is to connect.
    let first = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {} 8080 >/tmp/first; sleep 100000", server.ip);
    let born = cluster.run_pod(&namespace, "born", &nodes[0].name, &first, |_| {});
    eventually(DEADLINE, "the first connection of a new pod is answered", || {
        born.attempt("cat /tmp/first").ok().filter(|text| text.contains(secret.as_str()))
    });
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_tls13();
    let seen = kubectl.run(&["-n", namespace.name(), "logs", "server"]);
    for pod in [&client, &born] {
        assert!(seen.contains(&pod.ip.to_string()), "the application sees the address of {}: {seen}", pod.name);
    }

    kubectl.apply(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": namespace.name()}, "spec": {"mtls": {"mode": "STRICT"}},
    }));
    eventually(SETTLE, "who has no identity is refused", || (!ask(&stranger, &server)).then_some(()));
    assert!(ask(&client, &server), "who has one is not");
    holds_for(Duration::from_secs(4), "the kubelet, which has none, probes all the same", || {
        let status = server.object()["status"]["conditions"].to_string();
        status.contains(r#""status":"True","type":"Ready""#) && life(&server) == lives[1]
    });

    restart_under_load(&mesh, &client, &server);
    assert!(!ask(&stranger, &server), "STRICT outlives the agents");

    assert_eq!([&client, &server].map(life), lives, "nothing was restarted");
    label(kubectl, namespace.name(), "-");
    wait_marked(&[&client, &server, &born], false);
    mesh.remove();
    for (node, before) in nodes.iter().zip(&before) {
        let what = format!("the CNI configuration of {} is as it was", node.name);
        eventually(SETTLE, &what, || (conf(&node.folder) == *before).then_some(()));
        let pins = node.enter("ls", &["/sys/fs/bpf/sotto"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&pins.stdout), "", "what {} has pinned", node.name);
    }
    let capture = cluster.capture();
    assert_eq!(client.fetch(server.ip, 8080), secret.as_str());
    capture.stop().assert_clear_text_seen(&secret);
    let after = cluster.run_pod(&namespace, "after", &nodes[0].name, "sleep 100000", |_| {});
    assert_eq!(after.fetch(server.ip, 8080), secret.as_str());
    assert_eq!([&client, &server].map(life), lives, "nothing was restarted");
}

/// All agents are replaced while a client keeps connecting: connections succeed, some of them late.
fn restart_under_load(mesh: &Installed<'_>, client: &KubePod, server: &KubePod) {
    const CONNECTIONS: usize = 150;
    const MAY_BE_CUT: usize = 2;
    let script = format!(
        "i=0; ok=0; while [ $i -lt {CONNECTIONS} ]; do i=$((i+1)); \
         printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 30 {} 8080 | grep -q 200 && ok=$((ok+1)); usleep 100000; done; echo $ok",
        server.ip
    );
    let load = client.shell(&script).stdout(std::process::Stdio::piped()).spawn().unwrap();
    mesh.cluster.kubectl().run(&["-n", SYSTEM, "rollout", "restart", "daemonset/sotto-node"]);
    mesh.wait_ready();
    let output = load.wait_with_output().unwrap();
    let answered = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    println!("{answered} of {CONNECTIONS} connections answered while all agents were replaced");
    // One that is open at the moment in which an agent ends may be cut off; those that begin meanwhile wait.
    let lost = CONNECTIONS - answered.parse::<usize>().unwrap_or(0).min(CONNECTIONS);
    assert!(lost <= MAY_BE_CUT, "{lost} of {CONNECTIONS} connections were lost");
}

/// Names and texts of a node's CNI configurations and plugins of ours.
fn conf(folder: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("cni-conf"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
        .collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    if folder.join("cni-bin/sotto-cni").exists() {
        files.push(("sotto-cni".to_owned(), Value::Null));
    }
    files
}
