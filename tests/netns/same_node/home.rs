//! What these tests start from: one node with its agent, a client and a server that belong to the mesh.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use harness::{Agent, Conn, DEADLINE, Mesh, Node, Pod, Site, eventually};

/// One node and two pods of the namespace `demo`, enrolled.
pub(super) struct Home {
    pub(super) node: Node,
    pub(super) agent: Agent,
    pub(super) client: Pod,
    pub(super) server: Pod,
    /// Last, so that the handles above are gone before the mesh is.
    pub(super) mesh: Mesh,
}

impl Home {
    pub(super) fn new(test: &str) -> Option<Self> {
        Self::with_argument(test, None)
    }

    pub(super) fn with_argument(test: &str, argument: Option<(&str, &str)>) -> Option<Self> {
        let mesh = Mesh::new(test)?;
        let node = mesh.node("a");
        let (client, server) = (node.pod("client").start(), node.pod("server").start());
        mesh.namespace("demo").enrol();
        let agent = node.agent();
        let agent = argument.into_iter().fold(agent, |agent, (name, value)| agent.arg(name, value)).start();
        mesh.wait_enrolled(&[&client, &server]);
        Some(Self { node, agent, client, server, mesh })
    }

    /// A direct connection of the client to the server's port, once there is one.
    #[track_caller]
    pub(super) fn direct(&self, port: u16) -> Conn {
        direct(&self.client, self.server.addr(port))
    }
}

/// A connection that goes straight to a pod; those before it, which the agent relays, are closed again.
#[track_caller]
pub(super) fn direct(client: &Site, to: SocketAddr) -> Conn {
    eventually(DEADLINE, &format!("a connection of {client} goes directly to {to}"), || {
        let conn = client.try_connect(to, DEADLINE).ok()?;
        is_direct(client, &conn).then_some(conn)
    })
}

/// Whether the client's socket leads out of its pod, and not to the agent on the pod's own address: the kernel's own table says so.
pub(super) fn is_direct(client: &Site, conn: &Conn) -> bool {
    const OUTBOUND: &str = ":3A99"; // 15001
    let local = format!(":{:04X}", conn.local_addr().port());
    let tables = ["net/tcp", "net/tcp6"].map(|table| {
        let path = format!("/proc/thread-self/{table}");
        client.netns().run(|| std::fs::read_to_string(path)).unwrap_or_default()
    });
    let rows = tables.iter().flat_map(|table| table.lines());
    let mut own = rows.filter_map(|row| {
        let mut columns = row.split_whitespace().skip(1);
        let (near, far) = (columns.next()?, columns.next()?);
        (near.ends_with(&local) && !far.ends_with(":0000")).then(|| far.to_owned())
    });
    own.next().is_some_and(|far| !far.ends_with(OUTBOUND))
}

/// Sends and reads back, without a panic when the other side has gone.
pub(super) fn echoes(conn: &Conn, text: &str) -> bool {
    let mut stream = conn.stream();
    let mut answer = vec![0; text.len()];
    stream.write_all(text.as_bytes()).and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == text.as_bytes()
}
