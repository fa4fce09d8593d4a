//! The agent that runs here: whether it does what it is there for.

use std::path::PathBuf;
use std::time::SystemTime;

use super::super::ask::Agent;
use super::super::output::{Failure, Outcome, Output};
use super::{cluster, machine, network};
use crate::control::diagnose::check::{Finding, passed};
use crate::control::diagnose::dump::agent::Dump;
use crate::control::diagnose::dump::section::Section;
use crate::control::diagnose::show;
use crate::control::diagnose::show::status::age;
use crate::drivers::admin::client::{Ask, ask};

/// What to look at.
#[derive(Debug)]
pub struct Check {
    /// Look at the agent that runs here, too; it has to.
    pub post_install: bool,
    /// How to reach the API server.
    pub kubeconfig: Option<PathBuf>,
    /// The node's directory of CNI configurations.
    pub cni_conf_dir: PathBuf,
    /// The node's directory of CNI plugins.
    pub cni_bin_dir: PathBuf,
    /// Nothing of Kubernetes is needed.
    pub standalone: bool,
    /// The cgroup that the agent is told to attach to.
    pub cgroup: Option<PathBuf>,
}

/// Metrics of the redirection that count connections which were lost for want of room.
const LOST: [&str; 3] = ["original_destinations_full", "admitted_flows_full", "refused_no_note"];

/// So many problems with objects are told.
const TOLD: usize = 5;

/// Looks at everything.
pub(in super::super) async fn run(agent: Agent, output: Output, check: Check) -> Result<Outcome, Failure> {
    let dump = agent.dump(&[Section::Pods, Section::Certificates, Section::Problems]).await;
    let mut findings = machine::check(check.cgroup);
    let mut ports = vec![("--admin-addr", agent.0)];
    if !check.standalone {
        ports.push(("--metrics-addr", ([0; 8], 15020).into()));
        ports.push(("--ready-addr", ([0; 8], 15021).into()));
    }
    findings.extend(network::ports(&ports, dump.is_ok()));
    if !check.standalone {
        findings.extend(network::cni(&check.cni_conf_dir, &check.cni_bin_dir));
        findings.extend(cluster::check(check.kubeconfig.as_deref()).await);
    }
    if check.post_install {
        // Without an agent there is nothing to look at: that is no finding, but no answer.
        findings.extend(running(agent, &dump?, SystemTime::now()).await);
    }
    output.print(&findings, |style| show::check::findings(&findings, style))?;
    Ok(Outcome::fine_if(passed(&findings)))
}

async fn running(agent: Agent, dump: &Dump, now: SystemTime) -> Vec<Finding> {
    let mut findings = judge(dump, now);
    if let Some(address) = dump.config.ready_addr {
        let local = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, address.port()));
        let answer = ask(local, &Ask::get("/healthz/ready")).await;
        findings.push(match answer {
            Ok((200, _)) => Finding::ok("readiness probe", format!("{address} answers")),
            Ok((status, body)) => Finding::failed(
                "readiness probe",
                format!("status {status}: {}", String::from_utf8_lossy(&body).trim()),
                "see above",
            ),
            Err(error) => Finding::failed("readiness probe", error.to_string(), "see --ready-addr"),
        });
    }
    findings.push(match agent.text(&Ask::get("/metrics")).await {
        Ok(page) => redirection(&page),
        Err(error) => Finding::failed("metrics", error.to_string(), "see the agent's log"),
    });
    findings
}

/// What the agent says of itself.
fn judge(dump: &Dump, now: SystemTime) -> Vec<Finding> {
    let up = age(&dump.started_at, now).map_or_else(|| "?".to_owned(), show::style::short);
    let mut findings = vec![version(&dump.version, &up)];
    findings.push(if dump.ready {
        Finding::ok("ready", format!("the agent of {} is", dump.config.node))
    } else {
        Finding::failed(
            "ready",
            format!("not yet: {}", dump.pending.join(", ")),
            "see the agent's log for what keeps it",
        )
    });
    findings.push(if dump.state_loaded {
        Finding::ok("mesh state", format!("{} pods, {} services", dump.counts.workloads, dump.counts.services))
    } else {
        Finding::failed("mesh state", "not loaded yet", "see whether the API server (or the directory) can be reached")
    });
    findings.extend(problems(dump));
    findings.extend(pods(dump));
    findings.extend(certificates(dump));
    if dump.log.dropped_lines > 0 {
        let what = format!("{} lines were dropped", dump.log.dropped_lines);
        findings.push(Finding::warning(
            "log",
            what,
            "read the agent's standard output faster, or log less (sotto log-level)",
        ));
    }
    findings
}

fn version(theirs: &str, up: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    if theirs == own {
        return Finding::ok("agent", format!("sotto {theirs}, up {up}"));
    }
    let what = format!("the agent is sotto {theirs}, this is {own}");
    Finding::warning("agent", what, "use the command of the agent's own version")
}

fn problems(dump: &Dump) -> Vec<Finding> {
    let problems = dump.problems.iter().flatten().take(TOLD);
    problems.map(|problem| Finding::warning("objects", problem.clone(), "correct the object")).collect()
}

fn pods(dump: &Dump) -> Vec<Finding> {
    let waiting = dump.pods.iter().flatten().filter(|pod| !pod.enrolled);
    let mut findings: Vec<_> = waiting
        .map(|pod| {
            let why = pod.waiting_for.as_deref().unwrap_or("it is joining");
            Finding::failed(
                "pods",
                format!("{}/{} is not carried: {why}", pod.namespace, pod.name),
                "its connections wait",
            )
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("pods", format!("{} of this node, all carried", dump.counts.pods_carried)));
    }
    findings
}

fn certificates(dump: &Dump) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in dump.certificates.iter().flatten() {
        let error = line.last_error.as_deref().unwrap_or("no answer from the authority so far");
        let fix = "see --ca-address and the controller's log";
        if line.state != "Available" {
            findings.push(Finding::failed("certificates", format!("{}: {error}", line.identity), fix));
        } else if line.last_error.is_some() {
            let what = format!("{} is valid, but could not be renewed: {error}", line.identity);
            findings.push(Finding::warning("certificates", what, fix));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("certificates", format!("{}, all valid", dump.counts.certificates_valid)));
    }
    findings
}

/// Whether the kernel's tables were ever too small.
fn redirection(page: &str) -> Finding {
    const CHECK: &str = "redirection";
    let value = |event: &str| {
        let start = format!("sotto_redirect_events_total{{event=\"{event}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    let lost: Vec<_> = LOST.iter().map(|event| (event, value(event))).filter(|(_, count)| *count > 0).collect();
    if lost.is_empty() {
        return Finding::ok(CHECK, format!("{} connections captured, none lost", value("captured")));
    }
    let told: Vec<_> = lost.iter().map(|(event, count)| format!("{event} {count}")).collect();
    Finding::warning(CHECK, format!("connections were lost: {}", told.join(", ")), "see ARCHITECTURE.md, In the kernel")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::diagnose::check::Outcome as Is;
    use crate::control::diagnose::dump::agent::{CertificateLine, Counts, PodLine};

    fn worst(dump: &Dump) -> Is {
        judge(dump, SystemTime::UNIX_EPOCH).iter().map(|finding| finding.outcome).max().unwrap()
    }

    #[test]
    fn an_agent_is_judged_by_what_it_says_of_itself() {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let good = Dump { version, ready: true, state_loaded: true, ..Dump::default() };
        assert_eq!(worst(&good), Is::Ok);
        let pod = PodLine { waiting_for: Some("its address".into()), ..PodLine::default() };
        let certificate = |state: &str, error: Option<&str>| {
            let (state, last_error) = (state.to_owned(), error.map(str::to_owned));
            Some(vec![CertificateLine { state, last_error, ..CertificateLine::default() }])
        };
        let counts = Counts { problems: 1, ..Counts::default() };
        for (bad, outcome) in [
            (Dump { ready: false, pending: vec!["pods".into()], ..good.clone() }, Is::Failed),
            (Dump { state_loaded: false, ..good.clone() }, Is::Failed),
            (Dump { pods: Some(vec![pod]), ..good.clone() }, Is::Failed),
            (Dump { certificates: certificate("Unavailable", None), ..good.clone() }, Is::Failed),
            (Dump { certificates: certificate("Available", Some("away")), ..good.clone() }, Is::Warning),
            (Dump { certificates: certificate("Available", None), ..good.clone() }, Is::Ok),
            (Dump { problems: Some(vec!["x".into()]), counts, ..good.clone() }, Is::Warning),
            (Dump { version: "0.0.0".into(), ..good }, Is::Warning),
        ] {
            assert_eq!(worst(&bad), outcome, "{bad:?}");
        }
    }

    #[test]
    fn lost_connections_are_seen_in_the_metrics() {
        let page = |full: u64| {
            format!(
                "sotto_redirect_events_total{{event=\"captured\"}} 7\nsotto_redirect_events_total{{event=\"admitted_flows_full\"}} {full}\n"
            )
        };
        assert_eq!(redirection(&page(0)).what, "7 connections captured, none lost");
        assert_eq!(redirection(&page(2)).outcome, Is::Warning);
    }
}
