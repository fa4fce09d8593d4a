//! The kubelet's probes: let in whatever policy says, and nobody else by the same door.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use harness::{Agent, Cgroup, DEADLINE, Mesh, Node, Pod, Site, dial_from, eventually};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::attempts::{try_exchange, wait_reached, wait_refused};
use crate::fixture::is_refusal;

const HTTP: u16 = 8080;
const ECHO: u16 = 9090;

/// What an HTTP probe sends, as printf writes it.
const GET: &str = r"GET /healthz HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n";
/// How a gRPC probe begins: HTTP/2's preface and empty SETTINGS.
const GRPC: &str = r"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\04\0\0\0\0\0";
const GRPC_LENGTH: usize = 24;

/// A node with a kubelet, an agent that knows it, and a pod that serves.
struct Ward {
    node: Node,
    agent: Agent,
    server: Pod,
    kubelet: Cgroup,
    mesh: Mesh,
}

impl Ward {
    fn new(test: &str) -> Option<Self> {
        let mesh = Mesh::new(test)?;
        let node = mesh.node("a");
        let server = node.pod("server").start();
        let kubelet = mesh.cgroup("kubelet");
        mesh.namespace("demo").enrol();
        let agent = node.agent().arg("--kubelet-cgroup", &kubelet.path()).start();
        mesh.wait_enrolled(&[&server]);
        server.serve_http(HTTP, |client| client.ip().to_string());
        server.serve_echo(ECHO);
        Some(Self { node, agent, server, kubelet, mesh })
    }

    fn addresses(&self) -> [(SocketAddr, SocketAddr); 2] {
        [(self.server.addr(HTTP), self.server.addr(ECHO)), (self.server.addr6(HTTP), self.server.addr6(ECHO))]
    }

    /// All three kinds of probes to both families, by a process in this cgroup at this site.
    fn probe(&self, cgroup: &Path, site: &Site) -> Vec<Result<String, String>> {
        let kinds = |(http, echo)| {
            // What was not let in may still be told so late that connecting succeeded: a TCP probe is nothing to go by then.
            [dial_from(cgroup, site, http, GET, 4096), dial_from(cgroup, site, echo, GRPC, GRPC_LENGTH)]
        };
        self.addresses().into_iter().flat_map(kinds).collect()
    }

    #[track_caller]
    fn assert_probed(&self) {
        let kubelet = self.kubelet.directory();
        for (http, echo) in self.addresses() {
            let answer = dial_from(&kubelet, &self.node, http, GET, 4096).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            let gateway = if http.is_ipv4() { "10.201.1.1" } else { "fd00:201:1::1" };
            assert!(answer.ends_with(gateway), "the pod sees the node's own address: {answer}");
            dial_from(&kubelet, &self.node, echo, "", 0).unwrap();
            let answer = dial_from(&kubelet, &self.node, echo, GRPC, GRPC_LENGTH).unwrap();
            assert!(answer.starts_with("PRI * HTTP/2.0"), "{answer}");
        }
    }

    #[track_caller]
    fn assert_refused(&self, who: &str, cgroup: &Path, site: &Site) {
        for refused in self.probe(cgroup, site) {
            assert!(refused.is_err(), "{who}: {refused:?}");
        }
    }
}

#[test]
fn the_kubelet_probes_under_strict_and_nobody_else_does() {
    let Some(ward) = Ward::new("the_kubelet_probes_under_strict_and_nobody_else_does") else { return };
    let meshed = ward.node.pod("meshed").start();
    let stranger = ward.node.pod("stranger").namespace("elsewhere").start();
    ward.mesh.wait_enrolled(&[&meshed]);
    let kubepods = ward.mesh.cgroup("kubepods");
    let host_network = kubepods.below("pod1");
    let below = ward.kubelet.below("child");
    let kubelet = ward.kubelet.directory();

    for callers in [&meshed as &Site, &stranger, &ward.node] {
        wait_reached(callers, ward.server.addr(ECHO));
        try_exchange(callers, ward.server.addr6(ECHO)).unwrap();
    }
    ward.assert_probed();
    for probe in ward.probe(&host_network, &ward.node) {
        probe.unwrap();
    }

    let _strict = ward.mesh.peer_authentication("strict").namespace("istio-system").mode("STRICT").create();
    for refused in [&stranger as &Site, &ward.node] {
        wait_refused(refused, ward.server.addr(ECHO));
        wait_refused(refused, ward.server.addr6(ECHO));
    }
    try_exchange(&meshed, ward.server.addr(ECHO)).unwrap();
    try_exchange(&meshed, ward.server.addr6(ECHO)).unwrap();
    ward.assert_probed();
    ward.assert_refused("a pod on the host's network", &host_network, &ward.node);
    ward.assert_refused("a child of the kubelet with a cgroup of its own", &below, &ward.node);
    ward.assert_refused("the kubelet's cgroup in a pod's namespace", &kubelet, &stranger);
    eventually(DEADLINE, "two rounds of three kinds for two families are counted", || {
        let probes = ward.agent.metrics().sum("sotto_redirect_events_total", &[("event", "probes")]);
        (probes.round() as usize == 12).then_some(())
    });

    let deny = ward.mesh.authorization_policy("nobody").action("DENY").rules(json!([{}])).create();
    wait_refused(&meshed, ward.server.addr(ECHO));
    ward.assert_probed();
    ward.assert_refused("the kubelet's cgroup in an enrolled pod's namespace", &kubelet, &meshed);
    // A liveness probe that failed while the agent is away would have the kubelet restart pods.
    ward.agent.kill();
    ward.assert_probed();
    drop(deny);
}

/// One attempt from the node's address and this very port.
fn from_port(node: &Node, port: u16, to: SocketAddr) -> io::Result<()> {
    let socket = node.netns().run(|| Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)))?;
    socket.set_reuse_address(true)?;
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
    socket.bind(&any.into())?;
    socket.connect_timeout(&to.into(), DEADLINE)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.send(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut stream = std::net::TcpStream::from(socket);
    match io::Read::read(&mut stream, &mut [0; 1])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[test]
fn a_probes_port_is_no_pass_for_the_next_process_that_has_it() {
    let Some(ward) = Ward::new("a_probes_port_is_no_pass_for_the_next_process_that_has_it") else { return };
    let ports = ward.server.serve_http(7070, |client| client.port().to_string());
    let _strict = ward.mesh.peer_authentication("strict").mode("STRICT").create();
    wait_refused(&ward.node, ward.server.addr(ECHO));
    for to in [ward.server.addr(7070), ward.server.addr6(7070)] {
        for _ in 0..5 {
            // The server closes first, so that no TIME-WAIT keeps the port from being used at once.
            dial_from(&ward.kubelet.directory(), &ward.node, to, GET, 4096).unwrap();
            let port = ports.peers().last().unwrap().port();
            let denied = eventually(DEADLINE, "the port can be used again", || match from_port(&ward.node, port, to) {
                Err(error)
                    if matches!(error.raw_os_error(), Some(nix::libc::EADDRINUSE | nix::libc::EADDRNOTAVAIL)) =>
                {
                    None
                }
                other => Some(other),
            });
            let error = denied.expect_err("another process has the probe's port, not its pass");
            assert!(is_refusal(&error), "{error}");
        }
    }
    assert_eq!(ports.peers().len(), 10, "only the probes reached the application");
}

#[test]
fn a_kubelet_that_restarts_is_known_again() {
    let Some(ward) = Ward::new("a_kubelet_that_restarts_is_known_again") else { return };
    let _strict = ward.mesh.peer_authentication("strict").mode("STRICT").create();
    wait_refused(&ward.node, ward.server.addr(ECHO));
    ward.assert_probed();
    ward.kubelet.renew();
    let directory: PathBuf = ward.kubelet.directory();
    let probe = || dial_from(&directory, &ward.node, ward.server.addr(HTTP), GET, 4096).ok();
    eventually(DEADLINE, "the kubelet's new cgroup is known", probe);
    let dump = ward.agent.get("/config_dump");
    assert!(dump.contains(&format!("\"cgroup\": \"{}\"", ward.kubelet.path())), "{dump}");

    ward.agent.terminate();
    // Told nothing, an agent trusts nobody on the node.
    let _unaware = ward.node.agent().arg("--kubelet-cgroup", "none").start();
    ward.mesh.wait_enrolled(&[&ward.server]);
    wait_refused(&ward.node, ward.server.addr(ECHO));
    ward.assert_refused("a cgroup that nobody named", &directory, &ward.node);
}
