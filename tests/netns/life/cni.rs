//! `sotto cni` as a container runtime starts it, and the agent that it asks: every verb and version, from the configuration that
//! the agent itself has put on the node.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Agent, AgentBuilder, BareCluster, DEADLINE, Mesh, Node, Pod, eventually, holds_for};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Every version of the specification that has chains.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The plugins of a node, and the configuration of its network.
struct Runtime {
    directory: TempDir,
}

impl Runtime {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["net.d", "bin"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let runtime = Self { directory };
        runtime.write_list("bridge");
        // As an agent sees its node in /proc: the first process's root. That of this machine may be closed even to root.
        fs::create_dir_all(runtime.path("proc/1")).unwrap();
        symlink("/", runtime.path("proc/1/root")).unwrap();
        symlink("/proc/self", runtime.path("proc/self")).unwrap();
        runtime
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The list of the network's own plugin, as its owner writes it.
    fn write_list(&self, plugin: &str) {
        let list = json!({"name": "pods", "cniVersion": "1.0.0", "plugins": [{"type": plugin}]});
        fs::write(self.path("next"), list.to_string()).unwrap();
        fs::rename(self.path("next"), self.path("net.d/10-pods.conflist")).unwrap();
    }

    fn plugins(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("net.d/10-pods.conflist")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["plugins"].as_array().unwrap().clone()
    }

    /// Waits until the agent's plugin comes last in the list.
    fn wait_chained(&self, after: &str) {
        eventually(DEADLINE, "the plugin is in the chain", || {
            let types: Vec<_> = self.plugins().iter().map(|plugin| plugin["type"].clone()).collect();
            (types == [after, "sotto-cni"]).then_some(())
        });
    }

    fn agent(&self, cluster: &BareCluster, node: &Node) -> AgentBuilder {
        let [conf, bin, socket] = ["net.d", "bin", "cni.sock"].map(|name| self.path(name).display().to_string());
        let agent = cluster.agent(node).arg("--cni-conf-dir", &conf).arg("--cni-bin-dir", &bin);
        let proc = self.path("proc").display().to_string();
        agent.arg("--cni-socket", &socket).arg("--proc-dir", &proc).arg("--on-exit", "remove")
    }

    /// One call, as a runtime makes it: what is printed, and whether it succeeded.
    fn call(&self, verb: &str, version: &str, attachment: &Attachment) -> Result<Value, Value> {
        let mut config = self.plugins().pop().unwrap_or_default();
        config["cniVersion"] = version.into();
        config["name"] = "pods".into();
        config["prevResult"] = attachment.result(version);
        config["cni.dev/valid-attachments"] = json!([{"containerID": attachment.container, "ifname": "eth0"}]);
        let mut command = Command::new(self.path("bin/sotto-cni"));
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_IFNAME", "eth0").env("CNI_PATH", self.path("bin"));
        command.env("CNI_CONTAINERID", &attachment.container).env("CNI_NETNS", &attachment.netns);
        command.env("CNI_ARGS", &attachment.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let output = run(&mut command, &config);
        let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() { Ok(printed) } else { Err(printed) }
    }
}

fn run(command: &mut Command, config: &Value) -> Output {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A sandbox of a pod.
struct Attachment {
    container: String,
    netns: String,
    arguments: String,
    ip: String,
}

impl Attachment {
    fn of(pod: &Pod, container: &str, uid: Option<&str>) -> Self {
        let (namespace, name) = (pod.namespace(), pod.name());
        let mut arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
        arguments.extend(uid.map(|uid| format!(";K8S_POD_UID={uid}")));
        let netns = pod.netns().path().display().to_string();
        Self { container: container.to_owned(), netns, arguments, ip: format!("{}/24", pod.ip()) }
    }

    fn result(&self, version: &str) -> Value {
        let ip = json!({"version": "4", "address": self.ip, "interface": 0});
        json!({"cniVersion": version, "interfaces": [{"name": "eth0", "sandbox": self.netns}], "ips": [ip]})
    }
}

struct Scene {
    runtime: Runtime,
    agent: Agent,
    node: Node,
    cluster: BareCluster,
    /// Last, so that the handles above are gone before the mesh is.
    _mesh: Mesh,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let mesh = Mesh::new(test)?;
        let cluster = mesh.cluster(test)?;
        let node = mesh.node("a");
        cluster.add_node(&node);
        cluster.add_namespace("demo");
        cluster.label_namespace("demo", true);
        let runtime = Runtime::new();
        let agent = runtime.agent(&cluster, &node).start();
        runtime.wait_chained("bridge");
        Some(Self { runtime, agent, node, cluster, _mesh: mesh })
    }
}

fn code(error: &Value) -> (u64, String) {
    (error["code"].as_u64().unwrap_or_default(), format!("{} {}", error["msg"], error["details"]))
}

#[test]
fn a_runtime_hands_pods_over_in_every_version_and_none_without_an_agent() {
    let Some(scene) = Scene::new("a_runtime_hands_pods_over_in_every_version") else { return };
    let Scene { runtime, node, cluster, .. } = &scene;
    let pod = node.pod("web").start();
    let before = runtime.plugins();
    for (number, version) in VERSIONS.iter().enumerate() {
        let sandbox = Attachment::of(&pod, &format!("sandbox-{number}"), None);
        assert_eq!(runtime.call("VERSION", version, &sandbox).unwrap()["supportedVersions"], json!(VERSIONS));
        assert_eq!(runtime.call("STATUS", version, &sandbox), Ok(Value::Null));
        // The runtime is faster than the watch: ADD waits for a pod that the agent has not heard of.
        let added = thread::scope(|scope| {
            let adding = scope.spawn(|| runtime.call("ADD", version, &sandbox));
            holds_for(Duration::from_millis(300), "ADD waits", || !adding.is_finished());
            cluster.add_object(&pod);
            adding.join().unwrap()
        });
        assert_eq!(added.unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log())), sandbox.result(version));
        // No process of the pod runs, and it is carried already.
        assert_eq!(scene.agent.enrolled(&pod), Some(true), "when ADD is over");
        assert_eq!(runtime.call("CHECK", version, &sandbox), Ok(Value::Null));
        assert_eq!(runtime.call("GC", version, &sandbox), Ok(Value::Null));
        assert_eq!(scene.agent.enrolled(&pod), Some(true), "what GC names stays");
        assert_eq!(runtime.call("DEL", version, &sandbox), Ok(Value::Null));
        assert_eq!(runtime.call("DEL", version, &sandbox), Ok(Value::Null), "again, as runtimes do");
        cluster.server().delete(&format!("/api/v1/namespaces/demo/pods/{}", pod.name()));
        eventually(DEADLINE, "the pod is forgotten", || scene.agent.enrolled(&pod).is_none().then_some(()));
    }
    assert_eq!(code(&runtime.call("ADD", "0.2.0", &Attachment::of(&pod, "old", None)).unwrap_err()).0, 1);

    let plain = node.pod("plain").namespace("elsewhere").start();
    cluster.add_namespace("elsewhere");
    let uid = cluster.add_object(&plain);
    let sandbox = Attachment::of(&plain, "plain", Some(&uid));
    assert_eq!(runtime.call("ADD", "1.0.0", &sandbox), Ok(sandbox.result("1.0.0")));

    scene.agent.kill();
    let uid = cluster.add_object(&pod);
    let sandbox = Attachment::of(&pod, "late", Some(&uid));
    for (verb, number) in [("ADD", 11), ("CHECK", 100), ("STATUS", 50)] {
        let (told, text) = code(&runtime.call(verb, "1.1.0", &sandbox).unwrap_err());
        assert_eq!(told, number, "{verb}: {text}");
        assert!(text.contains("is the sotto agent running on this node?"), "{verb}: {text}");
    }
    assert_eq!(runtime.call("DEL", "1.1.0", &sandbox), Ok(Value::Null));
    // It comes back: the runtime's next attempt succeeds.
    let agent = runtime.agent(cluster, node).start();
    assert_eq!(runtime.call("ADD", "1.1.0", &sandbox), Ok(sandbox.result("1.1.0")));
    assert_eq!(agent.enrolled(&pod), Some(true));
    assert!(agent.terminate().success(), "{}", agent.log());
    assert_eq!(runtime.plugins(), before[..1], "the list is its owner's again");
    assert!(!runtime.path("bin/sotto-cni").exists());
}

#[test]
fn the_plugin_stays_in_the_chain_whatever_others_write() {
    let Some(scene) = Scene::new("the_plugin_stays_in_the_chain_whatever_others_write") else { return };
    let runtime = &scene.runtime;
    for owner in ["other", "bridge", "third"] {
        runtime.write_list(owner);
        runtime.wait_chained(owner);
    }
    // The whole directory is made anew, as an upgrade of a network plugin does.
    fs::rename(runtime.path("net.d"), runtime.path("old")).unwrap();
    fs::create_dir(runtime.path("net.d")).unwrap();
    runtime.write_list("fourth");
    runtime.wait_chained("fourth");
    let path = runtime.path("net.d/10-pods.conflist");
    fs::write(&path, "{").unwrap();
    scene
        .agent
        .wait_log("which file it cannot read", |line| line.contains("ERROR") && line.contains("10-pods.conflist"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{", "what cannot be read is left alone");
    runtime.write_list("fifth");
    runtime.wait_chained("fifth");
}

#[test]
fn a_pod_that_is_deleted_while_it_is_handed_over_holds_nobody_up() {
    let Some(scene) = Scene::new("a_pod_that_is_deleted_while_it_is_handed_over") else { return };
    let Scene { runtime, node, cluster, .. } = &scene;
    let pod = node.pod("web").start();
    for (end, why) in [("pod", "deleted before it had joined"), ("container", "removed the container meanwhile")] {
        let uid = cluster.add_object(&pod);
        let mut sandbox = Attachment::of(&pod, &format!("sandbox-{end}"), Some(&uid));
        sandbox.netns = "/run/netns/that-is-not-there".to_owned();
        let (error, took) = thread::scope(|scope| {
            let adding = scope.spawn(|| runtime.call("ADD", "1.0.0", &sandbox).unwrap_err());
            eventually(DEADLINE, "the agent waits for the sandbox", || {
                let dump = scene.agent.config_dump();
                dump["pods"].as_array()?.iter().any(|pod| pod["uid"] == *uid && pod["enrolled"] == false).then_some(())
            });
            assert!(!adding.is_finished());
            let begun = Instant::now();
            match end {
                "pod" => cluster.server().delete(&format!("/api/v1/namespaces/demo/pods/{}", pod.name())),
                _ => assert_eq!(runtime.call("DEL", "1.0.0", &sandbox), Ok(Value::Null)),
            }
            (adding.join().unwrap(), begun.elapsed())
        });
        assert!(code(&error).1.contains(why), "{error}");
        assert!(took < Duration::from_secs(10), "the runtime was held up for {took:?} more");
        assert_eq!(runtime.call("DEL", "1.0.0", &sandbox), Ok(Value::Null));
    }
    cluster.server().delete(&format!("/api/v1/namespaces/demo/pods/{}", pod.name()));
    eventually(DEADLINE, "nobody waits for it", || {
        scene.agent.config_dump()["pods"].as_array()?.is_empty().then_some(())
    });
}
