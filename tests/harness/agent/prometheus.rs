//! A real Prometheus that scrapes the mesh's agents, from the folder that `SOTTO_PROMETHEUS_BIN` names.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::http;
use crate::mesh::Mesh;
use crate::node::Node;
use crate::traffic::External;
use crate::wait::eventually;

/// Names the folder with `prometheus` and `promtool`.
const PROGRAMS: &str = "SOTTO_PROMETHEUS_BIN";

/// Where agents of tests with a Prometheus serve their metrics, at their node's address.
const METRICS_PORT: u16 = 15020;

/// How long it may take to start.
const START: Duration = Duration::from_secs(30);

/// A running Prometheus. It ends with the mesh.
#[derive(Debug)]
pub struct Prometheus {
    site: External,
    address: SocketAddr,
}

/// What one series of an answer is.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels, as a JSON object.
    pub labels: Value,
    /// Its value.
    pub value: f64,
}

impl Prometheus {
    /// Whether there are programs for it; with a line that starts with `skipped:` where not.
    #[must_use]
    pub fn is_there(test: &str) -> bool {
        let there = programs().is_some();
        if !there {
            let why = format!("needs {PROGRAMS}, a directory with prometheus and promtool");
            // Straight to the descriptor: the test runner would keep a print from being seen.
            let _ = writeln!(std::io::stdout().lock(), "skipped: {test}: {why}");
        }
        there
    }

    /// Where the agent of `node` has to serve its metrics.
    #[must_use]
    pub fn target(node: &Node) -> SocketAddr {
        SocketAddr::new(node.ip(), METRICS_PORT)
    }

    /// Starts one that scrapes these nodes' agents every second by the rules of a scrape configuration for Kubernetes, as if each
    /// were a pod of the DaemonSet.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(mesh: &Mesh, nodes: &[&Node], configuration: &str) -> Self {
        let site = mesh.external("prometheus");
        let mut configuration: Value = serde_saphyr::from_str(configuration).expect("the scrape configuration is YAML");
        configuration["global"] = json!({ "scrape_interval": "1s", "scrape_timeout": "1s" });
        for job in configuration["scrape_configs"].as_array_mut().into_iter().flatten() {
            let job = job.as_object_mut().expect("a job is an object");
            assert!(job.remove("kubernetes_sd_configs").is_some(), "the job is for Kubernetes");
            let targets: Vec<_> = nodes.iter().enumerate().map(|(number, node)| as_pod(node, number)).collect();
            job.insert("static_configs".into(), targets.into());
        }
        let directory = mesh.shared.path("prometheus");
        let file = directory.join("prometheus.yml");
        std::fs::create_dir(&directory).expect("a directory can be made");
        // JSON is YAML.
        std::fs::write(&file, configuration.to_string()).expect("a file can be written");
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 9090);
        let mut command = Command::new(programs().expect("SOTTO_PROMETHEUS_BIN is set").join("prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address={address}")).env("GOMAXPROCS", "1");
        let process = mesh.start_process(&site, &mut command);
        let prometheus = Self { site, address };
        eventually(START, "Prometheus is ready", || {
            assert!(process.is_running(), "Prometheus ended:\n{}", process.log());
            matches!(http::get(prometheus.site.netns(), address, "/-/ready"), Ok((200, _))).then_some(())
        });
        prometheus
    }

    /// Asks a question of this moment.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let (_, body) = http::get(self.site.netns(), self.address, &path).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let result = &answer["data"]["result"];
        if answer["data"]["resultType"] == "scalar" {
            return Ok(vec![series(&json!({}), result)]);
        }
        Ok(result.as_array().into_iter().flatten().map(|one| series(&one["metric"], &one["value"])).collect())
    }

    /// What `promtool check metrics` complains of, a line each.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn lint(page: &str) -> Vec<String> {
        let mut command = Command::new(programs().expect("SOTTO_PROMETHEUS_BIN is set").join("promtool"));
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("promtool starts");
        let mut stdin = child.stdin.take().expect("it has a standard input");
        stdin.write_all(page.as_bytes()).expect("promtool reads");
        drop(stdin);
        let output = child.wait_with_output().expect("promtool ends");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = said.lines().map(str::to_owned).collect();
        assert_eq!(output.status.success(), lines.is_empty(), "promtool: {}: {lines:?}", output.status);
        lines
    }
}

fn programs() -> Option<PathBuf> {
    std::env::var_os(PROGRAMS).filter(|place| !place.is_empty()).map(PathBuf::from)
}

/// A target as service discovery would find it.
fn as_pod(node: &Node, number: usize) -> Value {
    json!({
        "targets": [Prometheus::target(node).to_string()],
        "labels": {
            "__meta_kubernetes_namespace": "sotto-system",
            "__meta_kubernetes_pod_name": format!("sotto-node-{number}"),
            "__meta_kubernetes_pod_node_name": node.name(),
            "__meta_kubernetes_pod_label_app": "ztunnel",
            "__meta_kubernetes_pod_label_app_kubernetes_io_name": "sotto-node",
            "__meta_kubernetes_pod_container_port_name": "metrics",
        },
    })
}

fn series(labels: &Value, sample: &Value) -> Series {
    let value = sample[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    Series { labels: labels.clone(), value }
}

/// Everything but letters and digits in RFC 3986's percent encoding.
fn encoded(text: &str) -> String {
    let byte =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}
