//! Two nodes, their agents, and pods inside and outside the mesh.

use std::io::{self, Read as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use harness::{Agent, Conn, Marker, Mesh, Node, Pod, Service};

use crate::outages::{Outages, Which};

/// Sends back what comes.
pub(crate) const ECHO: u16 = 8080;
/// Takes everything, then says how much it was and its checksum.
pub(crate) const SINK: u16 = 8081;
/// Reads a word and resets.
pub(crate) const RESETTER: u16 = 8082;

/// Short, so that certificates are renewed many times.
const CERTIFICATE_LIFETIME: &str = "8s";

/// How long a server waits for a silent client.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node and its agent of the moment.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) node: Node,
    agent: Mutex<Agent>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) a: Side,
    pub(crate) b: Side,
    /// On node a, in the mesh.
    pub(crate) client: Pod,
    /// On node a, in the mesh.
    pub(crate) near: Pod,
    /// On node b, in the mesh.
    pub(crate) server: Pod,
    /// On node a: joins and leaves.
    pub(crate) mover: Pod,
    /// On node a, not in the mesh.
    pub(crate) guest: Pod,
    /// On node b, not in the mesh.
    pub(crate) host: Pod,
    /// Leads to `server` and `near`.
    pub(crate) service: Service,
    pub(crate) outages: Outages,
    /// What pods of the mesh say to each other.
    pub(crate) secret: Marker,
    /// What others say.
    pub(crate) open: Marker,
    /// Held for writing while an agent leaves: whoever connects then speaks in clear, as without a mesh.
    carried: RwLock<bool>,
    pub(crate) mesh: Mesh,
}

impl Side {
    pub(crate) fn agent(&self) -> MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an agent, in place of the one before.
    pub(crate) fn start_agent(&self) {
        let agent = spawn_agent(&self.node);
        *self.agent() = agent.clone();
        agent.wait_ready();
    }
}

impl Stage {
    pub(crate) fn set_up() -> Option<Self> {
        let mesh = Mesh::new("soak")?;
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let [client, near, mover] = ["client", "near", "mover"].map(|name| a.pod(name).start());
        let server = b.pod("server").start();
        let (guest, host) = (a.pod("guest").namespace("plain").start(), b.pod("host").namespace("plain").start());
        for pod in [&server, &near, &host] {
            pod.serve(ECHO, |conn| drop(echo(&conn)));
            pod.serve(SINK, |conn| drop(sink(&conn)));
            pod.serve(RESETTER, resetter);
        }
        let service = mesh.service("both").port(80, ECHO).pods(&[&server, &near]).create();
        let [a, b] = [a, b].map(|node| Side { agent: Mutex::new(spawn_agent(&node)), node });
        for side in [&a, &b] {
            side.agent().wait_ready();
            side.agent().wait_service(&service);
        }
        let outages = Outages::default();
        let (secret, open) = (Marker::new(), Marker::new());
        Some(Self {
            a,
            b,
            client,
            near,
            server,
            mover,
            guest,
            host,
            service,
            outages,
            secret,
            open,
            carried: RwLock::new(true),
            mesh,
        })
    }

    pub(crate) fn side(&self, which: Which) -> &Side {
        match which {
            Which::A => &self.a,
            Which::B => &self.b,
        }
    }

    /// Takes the pods into the mesh that stay in it.
    pub(crate) fn enrol(&self) {
        self.mover.opt_out();
        self.mesh.namespace("demo").enrol();
        self.wait_enrolled();
    }

    pub(crate) fn wait_enrolled(&self) {
        self.mesh.wait_enrolled(&[&self.client, &self.near, &self.server]);
    }

    /// Whether what the mesh's pods say is carried by it, for as long as the guard lives.
    pub(crate) fn carried(&self) -> RwLockReadGuard<'_, bool> {
        self.carried.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether connections made from now on are carried by the mesh; waits for those that are being made.
    pub(crate) fn set_carried(&self, carried: bool) {
        *self.carried.write().unwrap_or_else(PoisonError::into_inner) = carried;
    }
}

fn spawn_agent(node: &Node) -> Agent {
    // The access log of a long run would fill the disk.
    node.agent().arg("--cert-lifetime", CERTIFICATE_LIFETIME).env("RUST_LOG", "warn,access=off").spawn()
}

fn echo(conn: &Conn) -> io::Result<()> {
    let mut stream = conn.stream();
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

fn sink(conn: &Conn) -> io::Result<()> {
    let mut stream = conn.stream();
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut buffer, mut sum) = (vec![0; 64 * 1024], Sum::default());
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.write_all(sum.to_string().as_bytes());
        }
        sum.add(&buffer[..count]);
    }
}

fn resetter(conn: Conn) {
    let mut word = [0; 2];
    let mut stream = conn.stream();
    if stream.read_exact(&mut word).is_ok() {
        conn.reset();
    }
}

/// A length and a checksum (FNV-1a) of bytes in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    length: u64,
    hash: u64,
}

impl Default for Sum {
    fn default() -> Self {
        Self { length: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.hash = bytes.iter().fold(self.hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {:016x}", self.length, self.hash)
    }
}
