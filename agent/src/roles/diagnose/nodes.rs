//! `sotto status --all-nodes`: the agents of a cluster, asked through its API server.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt as _};

use super::ask::{dump_path, taken, understood};
use super::output::{Failure, Outcome, Output};
use crate::control::diagnose::dump::agent::Dump;
use crate::control::diagnose::dump::section::Section;
use crate::control::diagnose::show::nodes::{self, NodeLine};
use crate::drivers::admin::client::{Ask, ask_over};
use crate::drivers::cluster::Cluster;
use crate::drivers::cluster::agents::{self, AgentPod, LABEL};

/// Where the agents are.
#[derive(Debug)]
pub struct Nodes {
    /// How to reach the API server.
    pub kubeconfig: Option<PathBuf>,
    /// Its context.
    pub context: Option<String>,
    /// The namespace of the agents' pods.
    pub namespace: String,
    /// The port of their admin pages.
    pub port: u16,
}

/// So many agents are asked at once.
const AT_ONCE: usize = 16;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest answer that is read, in bytes: a node's agent is not trusted with the operator's memory.
const MAX_ANSWER: usize = 4 << 20;

/// All agents, one line each. One that does not answer is a line that says why.
pub(super) async fn status(output: Output, nodes: &Nodes) -> Result<Outcome, Failure> {
    let cluster = Cluster::of_operator(nodes.kubeconfig.as_deref(), nodes.context.as_deref()).await;
    let cluster = cluster.map_err(silent)?;
    let pods = agents::list(&cluster, &nodes.namespace).await.map_err(silent)?;
    if pods.is_empty() {
        let namespace = &nodes.namespace;
        return Err(silent(format!(
            "no pod with the label {LABEL} in the namespace {namespace}; see --agent-namespace"
        )));
    }
    let asking = pods.into_iter().map(|pod| line(&cluster, nodes, pod));
    let lines: Vec<_> = stream::iter(asking).buffered(AT_ONCE).collect().await;
    output.print(&lines, |style| nodes::nodes(&lines, SystemTime::now(), style))?;
    Ok(Outcome::fine_if(nodes::are_fine(&lines)))
}

async fn line(cluster: &Cluster, nodes: &Nodes, pod: AgentPod) -> NodeLine {
    let answer = match obstacle(&pod) {
        Some(why) => Err(why),
        None => match tokio::time::timeout(PATIENCE, ask(cluster, nodes, &pod.name)).await {
            Ok(answer) => answer.map_err(|error| format!("{error:#}")),
            Err(_) => Err(format!("nothing within {PATIENCE:?}")),
        },
    };
    let (status, error) = match answer {
        Ok(dump) => (Some(dump), None),
        Err(why) => (None, Some(why)),
    };
    NodeLine { node: pod.node, pod: pod.name, status, error }
}

async fn ask(cluster: &Cluster, nodes: &Nodes, pod: &str) -> Result<Dump, Failure> {
    let question = Ask::get(dump_path(&[Section::Problems])).at_most(MAX_ANSWER);
    let talk = |stream| {
        let question = &question;
        async move { ask_over(stream, &format!("port {} of {pod}", nodes.port), question).await }
    };
    let answered = agents::connect(cluster, (&nodes.namespace, pod), nodes.port, talk).await;
    understood(&taken(answered.map_err(silent)?.map_err(silent)?)?)
}

/// The words of these errors have their causes in them already.
fn silent(error: impl std::fmt::Display) -> Failure {
    Failure::NoAnswer(anyhow::Error::msg(error.to_string()))
}

/// Why there is no use in asking.
fn obstacle(pod: &AgentPod) -> Option<String> {
    let phase = Some(pod.phase.as_str()).filter(|phase| !phase.is_empty()).unwrap_or("no phase yet");
    match &pod.obstacle {
        Some(why) => Some(format!("the pod is not running ({phase}, {why})")),
        None if pod.phase != "Running" => Some(format!("the pod is not running ({phase})")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_run_is_not_asked() {
        let pod = |phase: &str, obstacle: Option<&str>| AgentPod {
            phase: phase.into(),
            obstacle: obstacle.map(str::to_owned),
            ..AgentPod::default()
        };
        assert_eq!(obstacle(&pod("Running", None)), None);
        assert_eq!(obstacle(&pod("Pending", None)).unwrap(), "the pod is not running (Pending)");
        let crashing = obstacle(&pod("Running", Some("CrashLoopBackOff")));
        assert_eq!(crashing.unwrap(), "the pod is not running (Running, CrashLoopBackOff)");
        assert_eq!(obstacle(&pod("", None)).unwrap(), "the pod is not running (no phase yet)");
    }
}
