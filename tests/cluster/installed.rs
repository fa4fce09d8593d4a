//! sotto in the cluster, installed from `deploy/` as users install it, and what tests do with it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use harness::kube::{Cluster, KubePod, Kubectl};
use harness::{Marker, eventually};
use serde_json::{Value, json};

pub(crate) const SYSTEM: &str = "sotto-system";
const AMBIENT: &str = "istio.io/dataplane-mode";
const REDIRECTION: &str = "ambient.istio.io/redirection";

/// Programs from source to a pod that is ready; generous, for a machine with other work.
const ROLLOUT: &str = "--timeout=180s";

/// How long the cluster may take for what it does by itself.
pub(crate) const SETTLE: Duration = Duration::from_secs(180);

/// The mesh in the cluster. It goes when this does.
pub(crate) struct Installed<'a> {
    pub(crate) cluster: &'a Cluster,
    gone: bool,
}

impl<'a> Installed<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        let installed = Self { cluster, gone: false };
        cluster.kubectl().run(&["apply", "-k", &deploy()]);
        installed.wait_ready();
        installed
    }

    pub(crate) fn wait_ready(&self) {
        for part in ["deployment/sotto-controller", "daemonset/sotto-node"] {
            let status = self.cluster.kubectl().attempt(&["-n", SYSTEM, "rollout", "status", part, ROLLOUT]);
            assert!(status.is_ok(), "{part}: {status:?}\n{}", self.logs());
        }
    }

    /// The pods of a part.
    pub(crate) fn pods(&self, part: &str) -> Vec<KubePod> {
        let label = format!("app.kubernetes.io/name={part}");
        let list = self.cluster.kubectl().get(&["-n", SYSTEM, "pods", "-l", &label]);
        let names = list["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap());
        names.map(|name| self.cluster.await_pod(SYSTEM, name)).collect()
    }

    pub(crate) fn logs(&self) -> String {
        let kubectl = self.cluster.kubectl();
        let told = kubectl.attempt(&["-n", SYSTEM, "describe", "pods"]);
        let logs = ["app.kubernetes.io/name=sotto-node", "app.kubernetes.io/name=sotto-controller"]
            .map(|label| kubectl.attempt(&["-n", SYSTEM, "logs", "-l", label, "--tail=40", "--prefix"]));
        format!("{told:?}\n{logs:?}").replace("\\n", "\n")
    }

    /// Takes the agents away, and everything that they have done to pods and nodes. They still have their rights meanwhile.
    pub(crate) fn remove_agents(&self) {
        let delete = ["-n", SYSTEM, "delete", "daemonset", "sotto-node", "--cascade=foreground", "--timeout=120s"];
        self.cluster.kubectl().run(&delete);
    }

    /// When it was installed, as the API server writes times.
    pub(crate) fn since(&self) -> String {
        let account = self.cluster.kubectl().get(&["-n", SYSTEM, "serviceaccount", "sotto-node"]);
        account["metadata"]["creationTimestamp"].as_str().unwrap().to_owned()
    }

    pub(crate) fn remove(mut self) {
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

/// What must not change when a pod joins or leaves: which pod it is, its containers, how often they were started, and the
/// processes in them.
pub(crate) fn life(cluster: &Cluster, pod: &KubePod) -> Value {
    let object = pod.object();
    let status = &object["status"]["containerStatuses"][0];
    let node = cluster.nodes().into_iter().find(|node| node.name == pod.node).unwrap();
    // One that lives from the first moment; what probes and tests run in the pod comes and goes.
    let first: Vec<_> = node.container_cgroups(pod).iter().map(|group| first_process(group)).collect();
    json!([object["metadata"]["uid"], status["containerID"], status["restartCount"], first])
}

fn first_process(cgroup: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).ok()?;
    text.lines().filter_map(|pid| pid.parse().ok()).min()
}

pub(crate) fn wait_marked(pods: &[&KubePod], marked: bool) {
    for pod in pods {
        let what = format!("the annotation of {} tells that it is carried: {marked}", pod.name);
        eventually(SETTLE, &what, || (is_marked(pod) == marked).then_some(()));
    }
}

pub(crate) fn is_marked(pod: &KubePod) -> bool {
    pod.object()["metadata"]["annotations"][REDIRECTION] == "enabled"
}

pub(crate) fn label(kubectl: &Kubectl, namespace: &str, mode: &str) {
    kubectl.run(&["label", "namespace", namespace, &format!("{AMBIENT}{mode}"), "--overwrite"]);
}

/// A script that serves `text` on port 8080.
pub(crate) fn serve(text: &Marker) -> String {
    format!("mkdir -p /tmp/www && echo {} >/tmp/www/index.html && exec httpd -f -v -p 8080 -h /tmp/www", text.as_str())
}

/// A script whose first act is to ask, and which keeps the answer in /tmp/first.
pub(crate) fn first_act(of: IpAddr) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {of} 8080 >/tmp/first; sleep 100000")
}

/// Asks once, and says whether the answer came.
pub(crate) fn ask(pod: &KubePod, of: &KubePod) -> bool {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {} 8080 | grep -q 200", of.ip);
    pod.attempt(&script).is_ok()
}

/// A client that makes a connection every tenth of a second until it is told to stop. It runs in the pod by itself: the API
/// server may go away meanwhile.
pub(crate) struct Load<'a> {
    client: &'a KubePod,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) made: usize,
    pub(crate) answered: usize,
}

impl<'a> Load<'a> {
    pub(crate) fn start(client: &'a KubePod, server: &KubePod) -> Self {
        let script = format!(
            "i=0; ok=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); \
             printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | nc -w 60 {} 8080 | grep -q 200 && ok=$((ok+1)); \
             echo $i $ok >/tmp/count; usleep 100000; done; mv /tmp/count /tmp/load",
            server.ip
        );
        let detached = format!("rm -f /tmp/stop /tmp/load; setsid sh -c '{script}' >/dev/null 2>&1 </dev/null &");
        client.attempt(&detached).unwrap();
        let load = Self { client };
        load.wait_answered(5);
        load
    }

    /// Waits until so many more connections were answered.
    pub(crate) fn wait_answered(&self, more: usize) {
        let before = self.read("count").map_or(0, |outcome| outcome.answered);
        eventually(SETTLE, "connections are answered", || {
            self.read("count").filter(|outcome| outcome.answered >= before + more).map(drop)
        });
    }

    pub(crate) fn stop(self) -> Outcome {
        self.client.attempt("touch /tmp/stop").unwrap();
        eventually(SETTLE, "the last connection ends", || self.read("load"))
    }

    fn read(&self, file: &str) -> Option<Outcome> {
        let said = self.client.attempt(&format!("cat /tmp/{file}")).ok()?;
        let mut numbers = said.split_whitespace().map_while(|word| word.parse().ok());
        Some(Outcome { made: numbers.next()?, answered: numbers.next()? })
    }
}

impl Outcome {
    /// Claims that no more than a few connections, those that were open at a moment, were lost.
    #[track_caller]
    pub(crate) fn assert_lost_at_most(&self, number: usize, when: &str) {
        println!("{} of {} connections answered {when}", self.answered, self.made);
        assert!(self.made >= 10, "no load: {self:?}");
        let lost = self.made - self.answered;
        assert!(lost <= number, "{lost} of {} connections were lost {when}", self.made);
    }
}
