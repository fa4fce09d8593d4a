//! What applications do during a soak: one connection after another, of every kind, each checked byte for byte.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harness::{Conn, DEADLINE, Marker, Pod, eventually};

use crate::ledger::Ledger;
use crate::outages::{Concern, Which};
use crate::stage::{ECHO, RESETTER, SINK, Stage, Sum};
use crate::watch::Watch;

/// Longer than a crash and four retransmissions of a SYN (after 1, 3, 7 and 15 s).
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// What a connection does, and between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A line and its answer, between two nodes.
    Request,
    /// The same to a service's address.
    Service,
    /// The same between two pods of one node.
    SameNode,
    /// From a pod outside the mesh to one inside.
    FromOutside,
    /// From a pod inside the mesh to one outside.
    ToOutside,
    /// Between two pods outside the mesh.
    Plain,
    /// From a pod that joins and leaves.
    Mover,
    /// The client ends its half first and reads on.
    HalfClose,
    /// The client resets.
    ClientReset,
    /// The server resets.
    ServerReset,
    /// Lines over many seconds.
    Long,
    /// Megabytes with a checksum.
    Bulk,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Request,
        Self::Service,
        Self::SameNode,
        Self::FromOutside,
        Self::ToOutside,
        Self::Plain,
        Self::Mover,
        Self::HalfClose,
        Self::ClientReset,
        Self::ServerReset,
        Self::Long,
        Self::Bulk,
    ];

    /// Client, server's address, and the nodes whose agents carry it.
    fn route(self, stage: &Stage) -> (&Pod, SocketAddr, &'static [Which]) {
        const BOTH: &[Which] = &[Which::A, Which::B];
        match self {
            Self::Request | Self::HalfClose | Self::ClientReset | Self::Long => {
                (&stage.client, stage.server.addr(ECHO), BOTH)
            }
            Self::Service => (&stage.client, stage.service.addr(80), BOTH),
            Self::SameNode => (&stage.client, stage.near.addr6(ECHO), &[Which::A]),
            Self::FromOutside => (&stage.guest, stage.server.addr(ECHO), &[Which::B]),
            Self::ToOutside => (&stage.client, stage.host.addr(ECHO), &[Which::A]),
            Self::Plain => (&stage.guest, stage.host.addr(ECHO), &[]),
            Self::Mover => (&stage.mover, stage.server.addr(ECHO), BOTH),
            Self::ServerReset => (&stage.client, stage.server.addr(RESETTER), BOTH),
            Self::Bulk => (&stage.client, stage.server.addr(SINK), BOTH),
        }
    }

    /// Whether its bytes must never cross in clear while the mesh carries its pods.
    fn is_secret(self) -> bool {
        !matches!(self, Self::FromOutside | Self::ToOutside | Self::Plain | Self::Mover)
    }

    /// Whether it waits for an agent that crashed instead of failing.
    fn waits(self) -> bool {
        !matches!(self, Self::FromOutside | Self::Mover)
    }
}

/// What a thread does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Short,
    Long,
    Bulk,
}

/// A step of a connection, and how it went wrong.
#[derive(Debug)]
struct Trouble(&'static str, io::Error);

/// Makes connections until told to stop.
pub(crate) fn run(stage: &Stage, role: Role, mut rng: Rng, ledger: &Ledger, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let (kind, pause) = match role {
            Role::Short => (Kind::ALL[rng.usize(..10)], 50),
            Role::Long => (Kind::Long, 500),
            Role::Bulk => (Kind::Bulk, 1000),
        };
        one(stage, kind, &mut rng, ledger, stop);
        thread::sleep(Duration::from_millis(rng.u64(..pause)));
    }
}

/// Shows that what crosses in clear is seen, before anybody belongs to the mesh.
pub(crate) fn show_that_the_watch_sees(stage: &Stage, watch: &Watch) {
    let probe = Marker::new();
    watch.look_for(&probe);
    stage.client.connect(stage.server.addr(ECHO)).exchange(&probe);
    eventually(DEADLINE, "a text that crosses in clear is seen", || (watch.count(&probe) > 0).then_some(()));
    watch.look_for(&stage.secret);
    watch.look_for(&stage.open);
}

fn one(stage: &Stage, kind: Kind, rng: &mut Rng, ledger: &Ledger, stop: &AtomicBool) {
    let (client, address, agents) = kind.route(stage);
    let from = Instant::now();
    let result = connect(stage, kind, client, address)
        .and_then(|(conn, text)| talk(kind, &conn, &text, rng, stop).map_err(|trouble| (trouble, Some(conn))));
    let Err((Trouble(step, error), conn)) = result else {
        ledger.done(kind);
        return;
    };
    let until = Instant::now();
    let concern = Concern { agents, waits: kind.waits(), from, until };
    match stage.outages.excuse(concern) {
        Some(why) => ledger.excused(kind, why),
        None => {
            let name = conn.map_or_else(|| format!("{client} -> {address}"), |conn| conn.to_string());
            let during = stage.outages.during(concern).map_or_else(String::new, |during| format!("; {during}"));
            let story = format!("({name}, {:.1?} after connect(){during})", until - from);
            ledger.unexpected(kind, &format!("{step}: {error}"), &story);
        }
    }
}

type Failed = (Trouble, Option<Conn>);

/// Connects; what is said on the connection is a secret if the mesh carries it from here on.
fn connect(stage: &Stage, kind: Kind, client: &Pod, address: SocketAddr) -> Result<(Conn, String), Failed> {
    let carried = stage.carried();
    let text = if kind.is_secret() && *carried {
        stage.secret.line()
    } else if kind == Kind::Plain {
        stage.open.line()
    } else {
        "neither secret nor looked for\n".to_owned()
    };
    let conn = client.try_connect(address, CONNECT_PATIENCE).map_err(|error| (Trouble("connect", error), None))?;
    Ok((conn, text))
}

fn talk(kind: Kind, conn: &Conn, text: &str, rng: &mut Rng, stop: &AtomicBool) -> Result<(), Trouble> {
    match kind {
        Kind::HalfClose => half_close(conn, text),
        Kind::ClientReset => client_reset(conn, text),
        Kind::ServerReset => server_reset(conn),
        Kind::Long => long(conn, text, rng, stop),
        Kind::Bulk => bulk(conn, text, rng),
        Kind::Request
        | Kind::Service
        | Kind::SameNode
        | Kind::FromOutside
        | Kind::ToOutside
        | Kind::Plain
        | Kind::Mover => exchange(conn, text),
    }
}

fn exchange(conn: &Conn, text: &str) -> Result<(), Trouble> {
    let mut stream = conn.stream();
    stream.write_all(text.as_bytes()).map_err(|error| Trouble("send", error))?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).map_err(|error| Trouble("receive", error))?;
    same(&answer, text.as_bytes())
}

fn half_close(conn: &Conn, text: &str) -> Result<(), Trouble> {
    let mut stream = conn.stream();
    let (text, mut answer) = (text.repeat(100), Vec::new());
    stream.write_all(text.as_bytes()).map_err(|error| Trouble("send", error))?;
    stream.shutdown(Shutdown::Write).map_err(|error| Trouble("half-close", error))?;
    stream.read_to_end(&mut answer).map_err(|error| Trouble("receive to the end", error))?;
    same(&answer, text.as_bytes())
}

fn client_reset(conn: &Conn, text: &str) -> Result<(), Trouble> {
    exchange(conn, text)?;
    // Closing with unread data, or with this, sends RST.
    let now = socket2::SockRef::from(conn.stream()).set_linger(Some(Duration::ZERO));
    now.map_err(|error| Trouble("reset", error))
}

fn server_reset(conn: &Conn) -> Result<(), Trouble> {
    let mut stream = conn.stream();
    stream.write_all(b"go").map_err(|error| Trouble("send", error))?;
    match stream.read(&mut [0; 16]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(Trouble("receive the reset", error)),
        Ok(count) => Err(Trouble("receive the reset", io::Error::other(format!("{count} bytes instead")))),
    }
}

fn long(conn: &Conn, text: &str, rng: &mut Rng, stop: &AtomicBool) -> Result<(), Trouble> {
    let until = Instant::now() + Duration::from_millis(rng.u64(2000..30_000));
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        exchange(conn, text)?;
        thread::sleep(Duration::from_millis(rng.u64(..500)));
    }
    Ok(())
}

fn bulk(conn: &Conn, text: &str, rng: &mut Rng) -> Result<(), Trouble> {
    let mut stream = conn.stream();
    let (block, mut sum) = (text.repeat(500), Sum::default());
    for _ in 0..rng.u32(20..200) {
        stream.write_all(block.as_bytes()).map_err(|error| Trouble("send", error))?;
        sum.add(block.as_bytes());
    }
    stream.shutdown(Shutdown::Write).map_err(|error| Trouble("half-close", error))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| Trouble("receive the checksum", error))?;
    same(&answer, sum.to_string().as_bytes())
}

fn same(answer: &[u8], expected: &[u8]) -> Result<(), Trouble> {
    if answer == expected {
        return Ok(());
    }
    let (got, wanted) = (answer.len(), expected.len());
    Err(Trouble("compare", io::Error::other(format!("other data: {got} bytes instead of {wanted}"))))
}
