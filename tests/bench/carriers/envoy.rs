//! Envoy as a sidecar beside each pod: traffic of both directions captured by iptables, mutual TLS between the two.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Conn, Mesh, Node, Pod, Process, eventually};

use super::contestant::{self, Change, Contestant};
use super::envoy_config::{self, Mode};
use super::identity::Authority;
use crate::output::Record;
use crate::pair::Pair;
use crate::tools::find;
use crate::usage::Processes;

/// The group that Envoy runs in: its own connections are known by it and left alone, as Istio does.
const GROUP: u32 = 1337;

/// How long an Envoy may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two sidecars with two workers each, as Istio starts them.
pub(super) struct Envoy {
    mode: Mode,
    program: PathBuf,
    authority: Authority,
    pair: Pair,
    configurations: Vec<(Pod, PathBuf)>,
    running: Vec<Arc<Process>>,
    /// Sidecars of pods that are there to be many.
    crowd: Vec<Arc<Process>>,
    node: Node,
    mesh: Mesh,
}

impl Envoy {
    /// `None`, with a note, where there is no Envoy.
    pub(super) fn set_up(mode: Mode, record: &mut Record) -> Result<Option<Self>> {
        let Some(program) = find("envoy") else {
            record.note(format_args!("{} is left out: there is no Envoy", mode.name()));
            return Ok(None);
        };
        let mesh = contestant::mesh()?;
        let authority = Authority::create(&mesh)?;
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let (client, server) = (a.pod("client").start(), b.pod("server").start());
        let mut configurations = Vec::new();
        for pod in [&client, &server] {
            configurations.push((pod.clone(), configure(mode, &authority, pod, (&client, &server))?));
        }
        let pair = Pair::new(&mesh, client, server)?;
        Ok(Some(Self {
            mode,
            program,
            authority,
            pair,
            configurations,
            running: Vec::new(),
            crowd: Vec::new(),
            node: b,
            mesh,
        }))
    }

    fn run(&mut self) {
        self.running = self.configurations.iter().map(|(pod, path)| self.spawn(pod, path)).collect();
        for ((pod, _), process) in self.configurations.iter().zip(&self.running) {
            wait_ready(pod, process);
        }
    }

    fn spawn(&self, pod: &Pod, configuration: &Path) -> Arc<Process> {
        let mut command = Command::new(&self.program);
        command.arg("--config-path").arg(configuration).args(["--concurrency", "2", "--use-dynamic-base-id"]);
        command.args(["--log-level", "warning"]).gid(GROUP);
        self.mesh.start_process(pod, &mut command)
    }

    /// Restarts both pods, with sidecars or without. What the client had open is gone with it; so is what the server had.
    fn restart_pods(&mut self, sidecars: bool) -> Result<u32> {
        self.stop();
        for (pod, _) in &self.configurations {
            if sidecars { capture(pod) } else { release(pod) }
        }
        if sidecars {
            self.run();
        }
        self.pair.restart_application(&self.mesh)?;
        Ok(2)
    }
}

impl Contestant for Envoy {
    fn name(&self) -> &'static str {
        self.mode.name()
    }

    fn pair(&self) -> &Pair {
        &self.pair
    }

    fn start(&mut self) -> Result<()> {
        for (pod, _) in &self.configurations {
            capture(pod);
        }
        self.run();
        Ok(())
    }

    fn processes(&self) -> Processes {
        let mut pids = self.running.iter().map(|process| process.pid());
        Processes { a: pids.next().into_iter().collect(), b: pids.collect() }
    }

    fn stop(&mut self) {
        for process in self.running.drain(..).chain(self.crowd.drain(..)) {
            process.kill();
        }
    }

    fn carries_tcp(&self) -> bool {
        self.mode == Mode::Tcp
    }

    fn prove(&self) -> Result<()> {
        for (pod, _) in &self.configurations {
            let text = page(pod.connect(envoy_config::ADMIN), "/stats?filter=ssl.handshake");
            let handshakes = text.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok()).sum::<u64>();
            ensure!(handshakes > 0, "the Envoy of {pod} has made no TLS handshake:\n{text}");
        }
        Ok(())
    }

    fn before_joining(&mut self) -> Result<bool> {
        self.configurations.iter().for_each(|(pod, _)| release(pod));
        Ok(true)
    }

    fn change(&mut self, change: Change) -> Result<u32> {
        self.restart_pods(change != Change::Leave)
    }

    fn memory_with(&mut self, pods: usize) -> Result<Option<u64>> {
        if self.mode != Mode::Tcp {
            return Ok(None);
        }
        if self.running.is_empty() {
            self.start()?;
        }
        let server = &self.pair.server;
        while self.crowd.len() + 1 < pods {
            let pod = self.node.pod(&format!("crowd-{}", self.crowd.len())).start();
            let path = configure(self.mode, &self.authority, &pod, (&self.pair.client, server))?;
            let process = self.spawn(&pod, &path);
            wait_ready(&pod, &process);
            self.crowd.push(process);
        }
        let pids: Vec<u32> = self.running[1..].iter().chain(&self.crowd).map(|process| process.pid()).collect();
        Processes::memory(&pids).map(Some)
    }
}

/// Writes the configuration of a pod's sidecar.
fn configure(mode: Mode, authority: &Authority, pod: &Pod, (client, server): (&Pod, &Pod)) -> Result<PathBuf> {
    let (chain, key) = authority.sign(pod)?;
    let secrets = envoy_config::Secrets { roots: authority.roots(), chain, key };
    let path = authority.directory().with_file_name(format!("envoy-{}.json", pod.name()));
    fs::write(&path, envoy_config::bootstrap(mode, pod, server, client, &secrets).to_string())?;
    Ok(path)
}

fn wait_ready(pod: &Pod, process: &Process) {
    eventually(PATIENCE, &format!("the Envoy of {pod} is ready"), || {
        assert!(process.is_running(), "the Envoy of {pod} ended:\n{}", process.log());
        let conn = pod.try_connect(envoy_config::ADMIN, PATIENCE).ok()?;
        page(conn, "/ready").contains("LIVE").then_some(())
    });
}

/// A page of Envoy's, with its head.
fn page(mut conn: Conn, path: &str) -> String {
    conn.send(format!("GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n"));
    String::from_utf8_lossy(&conn.receive_to_end()).into_owned()
}

/// Istio's rules, as far as they are for TCP: what the pod dials goes to 15001, what reaches it to 15006, what Envoy dials nowhere.
fn capture(pod: &Pod) {
    release(pod);
    let rules = [
        format!("-t nat -A OUTPUT -p tcp -m owner --gid-owner {GROUP} -j RETURN"),
        "-t nat -A OUTPUT -p tcp -o lo -j RETURN".to_owned(),
        "-t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001".to_owned(),
        "-t nat -A PREROUTING -p tcp -i eth0 -j REDIRECT --to-ports 15006".to_owned(),
    ];
    for rule in &rules {
        let arguments: Vec<&str> = ["-w", "10"].into_iter().chain(rule.split_whitespace()).collect();
        let _ = pod.netns().output("iptables-legacy", &arguments);
    }
}

fn release(pod: &Pod) {
    let _ = pod.netns().output("iptables-legacy", &["-w", "10", "-t", "nat", "-F"]);
}
