//! What goes wrong in clusters: agents and the API server crash, agents and the authority are not there yet, nodes are drained.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::kube::{Cluster, ClusterNode, KubePod, Kubectl, TestNamespace};
use harness::wire::Stream;
use harness::{DEADLINE, Marker, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::installed::{Installed, Load, SETTLE, SYSTEM, ask, first_act, is_marked, serve, wait_marked};
use crate::residue::assert_no_trace;
use crate::rights::assert_rights_are_exact;

struct Scene<'a> {
    mesh: Installed<'a>,
    nodes: Vec<ClusterNode>,
    namespace: TestNamespace,
    client: KubePod,
    server: KubePod,
    secret: Marker,
}

impl<'a> Scene<'a> {
    /// A client on one node and a server on another, both of the mesh.
    fn new(cluster: &'a Cluster, purpose: &str) -> Self {
        let (nodes, secret) = (cluster.nodes(), Marker::new());
        let mesh = Installed::new(cluster);
        let namespace = cluster.kubectl().namespace(purpose, &json!({"istio.io/dataplane-mode": "ambient"}));
        let client = cluster.run_pod(&namespace, "client", &nodes[0].name, "sleep 100000", |_| {});
        let server = cluster.run_pod(&namespace, "server", &nodes[1].name, &serve(&secret), |_| {});
        wait_marked(&[&client, &server], true);
        eventually(DEADLINE, "the server serves", || ask(&client, &server).then_some(()));
        Self { mesh, nodes, namespace, client, server, secret }
    }

    fn kubectl(&self) -> &Kubectl {
        self.mesh.cluster.kubectl()
    }

    /// The process of a node's agent.
    fn agent(&self, node: &ClusterNode) -> u32 {
        agent_of(&self.mesh, node)
    }

    /// Takes the agents away from all nodes, or lets them come back. The mesh stays installed.
    fn keep_agents(&self, away: bool) {
        let place = if away { json!("nowhere") } else { Value::Null };
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"sotto.dev/test": place}}}}});
        self.kubectl().run(&["-n", SYSTEM, "patch", "daemonset", "sotto-node", "-p", &patch.to_string()]);
    }

    /// Whether an Event about a pod holds these words.
    fn is_told(&self, pod: &str, words: &str) -> bool {
        let events = self.kubectl().get(&["-n", self.namespace.name(), "events"]);
        let mut events = events["items"].as_array().into_iter().flatten();
        events.any(|event| {
            event["involvedObject"]["name"] == pod && event["message"].as_str().is_some_and(|text| text.contains(words))
        })
    }
}

#[test]
fn traffic_outlives_crashes_of_agents_and_of_the_api_server() {
    let Some(cluster) = Cluster::of_tier("traffic_outlives_crashes_of_agents_and_of_the_api_server") else { return };
    let scene = Scene::new(&cluster, "crashes");
    let Scene { mesh, nodes, client, server, secret, .. } = &scene;
    let capture = cluster.capture();
    for (node, whose) in [(&nodes[0], "client's"), (&nodes[1], "server's")] {
        let load = Load::start(client, server);
        crash(scene.agent(node));
        load.wait_answered(10);
        load.stop().assert_lost_at_most(2, &format!("while the {whose} agent crashed"));
    }
    mesh.wait_ready();
    let load = Load::start(client, server);
    let agent = scene.agent(&nodes[0]);
    let crashed = cluster.crash_api_server();
    // An agent that starts without the API server carries nothing new, and lets go of nothing.
    crash(agent);
    eventually(SETTLE, "the next agent says what it waits for", || {
        unready(&nodes[0]).filter(|text| text.contains("list of Pods")).map(drop)
    });
    drop(crashed);
    load.wait_answered(10);
    load.stop().assert_lost_at_most(2, "while the API server was away and an agent started without it");
    mesh.wait_ready();
    assert!(is_marked(client) && is_marked(server));
    let wire = capture.stop();
    wire.assert_never_in_clear(secret);
    let ends = [client.ip, server.ip];
    let between = |stream: &&Stream| [stream.source, stream.destination].iter().all(|end| ends.contains(&end.ip()));
    let mut streams = 0;
    for stream in wire.streams().iter().filter(between) {
        assert!([stream.source.port(), stream.destination.port()].contains(&15008), "past the agents: {stream:?}");
        // A killed agent's kernel may have ended the stream within a record.
        stream.check_only_tls_or_cut().unwrap_or_else(|problem| panic!("{problem}\n{wire}"));
        streams += 1;
    }
    assert!(streams >= 2, "nothing crossed\n{wire}");
    scene.mesh.remove();
}

/// The process of a node's agent.
pub(crate) fn agent_of(mesh: &Installed<'_>, node: &ClusterNode) -> u32 {
    let agents = mesh.pods("sotto-node");
    let agent = agents.iter().find(|agent| agent.node == node.name).unwrap();
    node.processes(agent).into_iter().find(|pid| is_agent(*pid)).expect("the agent runs")
}

fn is_agent(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim() == "sotto"
}

/// Kills an agent.
fn crash(agent: u32) {
    kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL).unwrap();
    eventually(DEADLINE, "the agent has ended", || (!is_agent(agent)).then_some(()));
}

/// What a node's agent says it waits for, if it is there and waits.
fn unready(node: &ClusterNode) -> Option<String> {
    let address = SocketAddr::new(node.ip, 15021);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET /healthz/ready HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.starts_with("HTTP/1.1 200")).then_some(answer)
}

#[test]
fn what_is_not_there_yet_is_waited_for_and_said() {
    let Some(cluster) = Cluster::of_tier("what_is_not_there_yet_is_waited_for_and_said") else { return };
    let scene = Scene::new(&cluster, "waits");
    no_agent_on_the_node(&scene);
    no_authority(&scene);
    another_root(&scene);
    a_drained_node(&scene);
    assert_rights_are_exact(&scene.mesh);
    // The mesh goes although the namespace still has its label.
    let Scene { mesh, nodes, server, secret, namespace, .. } = scene;
    let near = cluster.run_pod(&namespace, "near", &nodes[0].name, "sleep 100000", |_| {});
    wait_marked(&[&near, &server], true);
    mesh.remove_agents();
    wait_marked(&[&near, &server], false);
    mesh.remove();
    for pod in [&near, &server] {
        assert_no_trace(&cluster, pod);
    }
    let capture = cluster.capture();
    assert_eq!(near.fetch(server.ip, 8080), secret.as_str());
    capture.stop().assert_clear_text_seen(&secret);
}

/// Pods of the mesh wait for the agent, what the cluster itself needs does not.
fn no_agent_on_the_node(scene: &Scene<'_>) {
    let (kubectl, cluster) = (scene.kubectl(), scene.mesh.cluster);
    scene.keep_agents(true);
    eventually(SETTLE, "the agents are gone", || {
        let pods = kubectl.get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=sotto-node"]);
        // No list at all where there is nothing.
        pods["items"].as_array().is_none_or(Vec::is_empty).then_some(())
    });
    let capture = cluster.capture();
    let born = ["born", "child"];
    for name in born {
        let script = first_act(scene.server.ip);
        cluster.apply_pod(&scene.namespace, name, &scene.nodes[0].name, &script, |_| {});
    }
    eventually(SETTLE, "it is said what the pod waits for", || {
        scene.is_told("born", "is the sotto agent running on this node?").then_some(())
    });
    kubectl.run(&["-n", SYSTEM, "rollout", "restart", "deployment/sotto-controller"]);
    let rollout = ["-n", SYSTEM, "rollout", "status", "deployment/sotto-controller", "--timeout=180s"];
    kubectl.attempt(&rollout).expect("the authority comes up where there is no agent");
    assert!(born.iter().all(|name| !scene.has_started(name)), "nothing of the pods has run");
    scene.keep_agents(false);
    scene.mesh.wait_ready();
    for name in born {
        let pod = cluster.await_pod(scene.namespace.name(), name);
        eventually(SETTLE, "its first connection is answered", || {
            pod.attempt("cat /tmp/first").ok().filter(|text| text.contains(scene.secret.as_str()))
        });
    }
    let wire = capture.stop();
    wire.assert_never_in_clear(&scene.secret);
    wire.assert_tls13();
}

/// Who has a certificate goes on, who has none waits, and an Event says for what.
fn no_authority(scene: &Scene<'_>) {
    let (kubectl, cluster) = (scene.kubectl(), scene.mesh.cluster);
    let scale = |replicas: &str| kubectl.run(&["-n", SYSTEM, "scale", "deployment/sotto-controller", replicas]);
    scale("--replicas=0");
    eventually(SETTLE, "the authority is gone", || {
        let pods = kubectl.get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=sotto-controller"]);
        // No list at all where there is nothing.
        pods["items"].as_array().is_none_or(Vec::is_empty).then_some(())
    });
    let meta = json!({"name": "late", "namespace": scene.namespace.name()});
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}));
    let opted_out = |pod: &mut Value| pod["metadata"]["labels"]["istio.io/dataplane-mode"] = json!("none");
    let late = cluster.run_pod(&scene.namespace, "late", &scene.nodes[0].name, "sleep 100000", |pod| {
        opted_out(pod);
        pod["spec"]["serviceAccountName"] = json!("late");
    });
    kubectl.run(&[
        "-n",
        scene.namespace.name(),
        "label",
        "pod",
        "late",
        "istio.io/dataplane-mode=ambient",
        "--overwrite",
    ]);
    eventually(SETTLE, "an Event tells", || scene.is_told("late", "cannot join the mesh yet").then_some(()));
    assert!(!is_marked(&late) && ask(&scene.client, &scene.server));
    scale("--replicas=2");
    wait_marked(&[&late], true);
    assert!(ask(&late, &scene.server));
    scene.mesh.wait_ready();
}

/// A new root is published beside the old one, and nobody notices.
fn another_root(scene: &Scene<'_>) {
    let kubectl = scene.kubectl();
    let load = Load::start(&scene.client, &scene.server);
    kubectl.run(&["-n", SYSTEM, "annotate", "secret", "sotto-ca", "sotto.dev/rotate=root"]);
    eventually(SETTLE, "both roots are published", || {
        let map = kubectl.get(&["-n", SYSTEM, "configmap", "sotto-ca-root-cert"]);
        (map["data"]["root-cert.pem"].as_str()?.matches("BEGIN CERTIFICATE").count() == 2).then_some(())
    });
    load.wait_answered(5);
    load.stop().assert_lost_at_most(0, "while a root was added");
}

/// The authority's budget holds, and the node's agent is there to the end.
fn a_drained_node(scene: &Scene<'_>) {
    let (kubectl, node) = (scene.kubectl(), scene.nodes[0].name.as_str());
    let replicas = scene.mesh.pods("sotto-controller");
    assert_eq!(replicas.len(), 2);
    evict(kubectl, &replicas[0]).expect("one may go");
    let error = evict(kubectl, &replicas[1]).expect_err("the last one may not");
    assert!(error.contains("disruption budget"), "{error}");
    scene.mesh.wait_ready();
    let agents = || -> Vec<String> { scene.mesh.pods("sotto-node").into_iter().map(|agent| agent.uid).collect() };
    let before = agents();
    let drain = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s"];
    let drained = kubectl.attempt(&drain);
    let on_node = ["pods", "-A", "--field-selector", &format!("spec.nodeName={node}")];
    let left = kubectl.get(&on_node);
    kubectl.run(&["uncordon", node]);
    drained.unwrap_or_else(|error| panic!("{error}"));
    let names =
        left["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default());
    assert!(names.clone().all(|name| name.starts_with("sotto-node-")), "{:?}", names.collect::<Vec<_>>());
    assert_eq!(agents(), before, "agents stay");
    scene.mesh.wait_ready();
}

fn evict(kubectl: &Kubectl, pod: &KubePod) -> Result<String, String> {
    let meta = json!({"name": pod.name, "namespace": pod.namespace});
    let eviction = json!({"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": meta});
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", pod.namespace, pod.name);
    kubectl.create_raw(&path, &eviction)
}

impl Scene<'_> {
    fn has_started(&self, pod: &str) -> bool {
        let pod = self.kubectl().get(&["-n", self.namespace.name(), "pod", pod]);
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        statuses.iter().any(|status| !status["containerID"].is_null())
    }
}
