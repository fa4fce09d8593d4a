//! Agents that crash: under load, and with a mesh that changes while they are gone. Nothing goes in clear, nothing that ought to
//! work fails, nothing is held for ever.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Agent, DEADLINE, Marker, Node, Pod, Wire, eventually, holds_for};

use crate::fixture::{Pair, network_state, scaled};

/// How long a crashed agent stays away.
const AWAY: Duration = Duration::from_secs(2);

/// Longer than three retransmissions of a SYN (after 1, 3 and 7 s).
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client's agent asks again for a server's agent, less some time to ask in.
const AGENTS_PATIENCE: Duration = Duration::from_millis(4500);

/// Time between two connections of the load.
const PACE: Duration = Duration::from_millis(20);

/// What the load's bulk transfer sends at a time, and how often: enough to be in the middle of something at any moment, little
/// enough to look through in a capture.
const BULK: (usize, Duration) = (32 * 1024, Duration::from_millis(10));

/// How often a test crashes an agent: `SOTTO_TEST_REPEAT`, or twice.
fn repeat() -> usize {
    scaled("SOTTO_TEST_REPEAT", 2)
}

/// One connection of the load.
struct Attempt {
    begun: Instant,
    ended: Instant,
    result: io::Result<()>,
}

/// Connections made all the time, a bulk transfer, and somebody outside of the mesh who tries to get in.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// Bytes that the bulk transfer has sent.
    bulk: AtomicUsize,
    attempts: Mutex<Vec<Attempt>>,
    strangers: Mutex<Vec<Attempt>>,
}

impl Load {
    /// Runs until told to stop, and then until the last connection has ended.
    fn run(&self, pair: &Pair, stranger: &Pod, marker: &Marker) {
        thread::scope(|scope| {
            scope.spawn(|| self.bulk(&pair.client, pair.server.addr(9000), marker));
            scope.spawn(|| {
                while !self.stop.load(Ordering::SeqCst) {
                    attempt(&self.strangers, stranger, pair.server.addr(8080), b"stranger", DEADLINE);
                    thread::sleep(PACE);
                }
            });
            while !self.stop.load(Ordering::SeqCst) {
                scope.spawn(|| {
                    attempt(&self.attempts, &pair.client, pair.server.addr(8080), marker.as_ref(), PATIENCE);
                });
                thread::sleep(PACE);
            }
        });
    }

    /// Sends the marker over and over, on a new connection when the old one is cut off.
    fn bulk(&self, client: &Pod, to: SocketAddr, marker: &Marker) {
        let chunk = marker.as_str().repeat(BULK.0 / marker.as_str().len());
        while !self.stop.load(Ordering::SeqCst) {
            let Ok(conn) = client.try_connect(to, PATIENCE) else { continue };
            while !self.stop.load(Ordering::SeqCst) && conn.stream().write_all(chunk.as_bytes()).is_ok() {
                self.bulk.fetch_add(chunk.len(), Ordering::SeqCst);
                thread::sleep(BULK.1);
            }
        }
    }

    /// Waits until both kinds of load are under way.
    fn wait_served_since(&self, moment: Instant) {
        let sent = self.bulk.load(Ordering::SeqCst);
        eventually(PATIENCE, "the bulk transfer goes on", || {
            (self.bulk.load(Ordering::SeqCst) > sent + (1 << 20)).then_some(())
        });
        eventually(PATIENCE, "connections that began after the restart are served", || {
            let attempts = self.attempts.lock().unwrap();
            attempts.iter().any(|a| a.begun > moment && a.result.is_ok()).then_some(())
        });
    }
}

fn attempt(into: &Mutex<Vec<Attempt>>, client: &Pod, to: SocketAddr, bytes: &[u8], patience: Duration) {
    let begun = Instant::now();
    let result = client.try_connect(to, patience).and_then(|conn| {
        let conn = conn.with_deadline(patience);
        conn.stream().write_all(bytes)?;
        let mut echo = vec![0; bytes.len()];
        conn.stream().read_exact(&mut echo)?;
        assert_eq!(echo, bytes, "an echo of something else");
        Ok(())
    });
    into.lock().unwrap().push(Attempt { begun, ended: Instant::now(), result });
}

/// What crashes have cost, over all repetitions.
#[derive(Default)]
struct Figures {
    crashes: usize,
    while_away: usize,
    slowest: Duration,
    cut_off: usize,
    longest_away: Duration,
    strangers_refused: usize,
    bytes_on_the_wire: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Server,
}

fn check_crashes(pair: &mut Pair, side: Side) {
    let stranger = pair.a.pod("stranger").namespace("elsewhere").start();
    pair.server.serve_echo(8080);
    // Takes everything, and does not mind being cut off.
    pair.server.serve(9000, |conn| drop(io::copy(&mut conn.stream(), &mut io::sink())));
    let mut figures = Figures::default();
    for _ in 0..repeat() {
        crash(pair, &stranger, side, &mut figures);
    }
    let Figures { crashes, while_away, slowest, cut_off, longest_away, strangers_refused, bytes_on_the_wire } = figures;
    let mut line =
        format!("{crashes} crashes: {while_away} connections begun while away, slowest {slowest:.1?}, 0 failed, ");
    let _ = write!(line, "{cut_off} from before cut off, longest away {longest_away:.1?}, ");
    let _ = write!(line, "{strangers_refused} plain refused, 0 of {bytes_on_the_wire} bytes in clear");
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn crash(pair: &mut Pair, stranger: &Pod, side: Side, figures: &mut Figures) {
    let (marker, load) = (Marker::new(), Load::default());
    let capture = pair.mesh.capture();
    let (agent, node): (&Agent, &Node) = match side {
        Side::Client => (&pair.agent_a, &pair.a),
        Side::Server => (&pair.agent_b, &pair.b),
    };
    let (gone, back, next) = thread::scope(|scope| {
        scope.spawn(|| load.run(pair, stranger, &marker));
        load.wait_served_since(Instant::now());
        agent.kill();
        let gone = Instant::now();
        thread::sleep(AWAY);
        let starting = Instant::now();
        let next = node.start_agent();
        let back = Instant::now();
        load.wait_served_since(back);
        load.stop.store(true, Ordering::SeqCst);
        (gone..starting, back, next)
    });
    match side {
        Side::Client => pair.agent_a = next,
        Side::Server => pair.agent_b = next,
    }
    let attempts = load.attempts.into_inner().unwrap();
    // What began before the crash may be cut off by it; what waits for a server's agent does not wait for ever.
    let too_early = |a: &Attempt| side == Side::Server && a.begun + AGENTS_PATIENCE < back;
    for a in attempts.iter().filter(|a| a.begun > gone.start && !too_early(a)) {
        let (begun, lasted) = (a.begun - gone.start, a.ended - a.begun);
        assert!(a.result.is_ok(), "{:?} {begun:?} after the crash, after {lasted:?}", a.result);
    }
    let while_away = attempts.iter().filter(|a| a.begun > gone.start && a.begun < back && a.result.is_ok());
    figures.crashes += 1;
    figures.while_away += while_away.clone().count();
    figures.slowest = while_away.map(|a| a.ended - a.begun).max().max(Some(figures.slowest)).unwrap_or_default();
    figures.cut_off += attempts.iter().filter(|a| a.begun <= gone.start && a.result.is_err()).count();
    figures.longest_away = figures.longest_away.max(back - gone.start);

    if side == Side::Server {
        let strangers = load.strangers.into_inner().unwrap();
        let inside = strangers.iter().filter(|a| a.begun > gone.start && a.ended < gone.end);
        assert!(inside.clone().all(|a| a.result.is_err()), "nobody gets in unseen");
        figures.strangers_refused += inside.count();
    }
    figures.bytes_on_the_wire += check_wire(&capture.stop(), pair, &marker);
}

/// Not a byte of the marker in clear, and between the two pods not a packet to any port but the tunnel's.
fn check_wire(wire: &Wire, pair: &Pair, marker: &Marker) -> usize {
    wire.assert_never_in_clear(marker);
    let (client, server) = (pair.client.ip(), pair.server.ip());
    let ends = |ip| move |end: &SocketAddr| end.ip() == ip;
    let between = wire.streams().iter().filter(|s| {
        let both = [s.source, s.destination];
        both.iter().any(ends(client)) && both.iter().any(ends(server))
    });
    let mut bytes = 0;
    for stream in between {
        assert!([stream.source.port(), stream.destination.port()].contains(&15008), "around the agents: {stream:?}");
        // A killed agent's kernel may have ended the stream within a record.
        stream.check_only_tls_or_cut().unwrap_or_else(|problem| panic!("{problem}\n{wire}"));
        bytes += stream.len();
    }
    bytes
}

#[test]
fn a_crash_of_the_clients_agent_under_load_only_costs_time() {
    let Some(mut pair) = Pair::enrolled("a_crash_of_the_clients_agent_under_load_only_costs_time") else { return };
    check_crashes(&mut pair, Side::Client);
}

#[test]
fn a_crash_of_the_servers_agent_under_load_only_costs_time() {
    let Some(mut pair) = Pair::enrolled("a_crash_of_the_servers_agent_under_load_only_costs_time") else { return };
    check_crashes(&mut pair, Side::Server);
}

#[test]
fn a_crash_does_not_look_like_a_clean_end() {
    let Some(pair) = Pair::enrolled("a_crash_does_not_look_like_a_clean_end") else { return };
    let (tell, told) = mpsc::channel();
    pair.server.serve(8080, move |mut conn| {
        conn.expect("half");
        conn.send("half");
        let _ = tell.send(conn.stream().read(&mut [0]).map_err(|error| error.kind()));
    });
    for (agent, node) in [(&pair.agent_a, &pair.a), (&pair.agent_b, &pair.b)] {
        let mut conn = pair.client.connect(pair.server.addr(8080));
        conn.exchange("half");
        agent.kill();
        conn.expect_reset();
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Err(io::ErrorKind::ConnectionReset));
        let _next = node.start_agent();
    }
}

#[test]
fn the_next_agent_follows_what_changed_while_none_was_there() {
    let Some(pair) = Pair::plain("the_next_agent_follows_what_changed_while_none_was_there") else { return };
    let before = network_state(&pair.client);
    let [forgotten, recreated] = ["forgotten", "recreated"].map(|name| pair.a.pod(name).start());
    pair.server.serve_echo(8080);
    pair.enrol();
    pair.mesh.wait_enrolled(&[&forgotten, &recreated]);
    assert_eq!(pair.agent_a.pinned_pods(), 3);
    pair.agent_a.kill();

    // One opts out, one's manifest goes, one is another pod in another namespace at the same path.
    pair.client.opt_out();
    forgotten.delete_manifest();
    recreated.delete_manifest();
    drop(recreated);
    let recreated = pair.a.pod("recreated").start();
    let agent = pair.a.start_agent();
    pair.mesh.wait_left(&[&pair.client]);
    pair.mesh.wait_enrolled(&[&recreated]);
    eventually(DEADLINE, "only one pod is captured", || (agent.pinned_pods() == 1).then_some(()));

    for outside in [&pair.client, &forgotten] {
        let marker = Marker::new();
        let capture = pair.mesh.capture();
        outside.connect(pair.server.addr(8080)).exchange(&marker);
        capture.stop().assert_clear_text_seen(&marker);
    }
    let secret = Marker::new();
    let capture = pair.mesh.capture();
    recreated.connect(pair.server.addr(8080)).exchange(&secret);
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_tls13();
    assert_eq!(network_state(&pair.client), before, "the dead agent's traces are gone, too");
}

#[test]
fn an_agent_that_another_follows_leaves_the_capture_in_force() {
    const TEST: &str = "an_agent_that_another_follows_leaves_the_capture_in_force";
    let Some(pair) = Pair::with_agent_argument(TEST, Some(("--on-exit", "keep"))) else { return };
    pair.server.serve_echo(8080);
    pair.enrol();
    let end = |pair: &Pair| assert!(pair.agent_a.terminate().success(), "{}", pair.agent_a.log());
    let mut next = None;
    check_held(&pair, end, || next = Some(pair.a.start_agent())).expect("served by the next agent");
    // What it does not say is what standalone agents do: they take everything along.
    let next = next.expect("it was started");
    assert!(next.terminate().success() && !next.pins().exists(), "{}", next.log());
}

#[test]
fn a_pod_whose_manifest_is_broken_at_the_restart_stays_held() {
    let Some(pair) = Pair::enrolled("a_pod_whose_manifest_is_broken_at_the_restart_stays_held") else { return };
    pair.server.serve_echo(8080);
    let path = pair.mesh.manifests().join(pair.client.manifest_file());
    let good = fs::read_to_string(&path).unwrap();
    pair.agent_a.kill();
    pair.mesh.write_manifest(&pair.client.manifest_file(), &good.replace("podIPs:", "podIPs: what"));
    let mend = || pair.mesh.write_manifest(&pair.client.manifest_file(), &good);
    check_held(&pair, |pair| drop(pair.a.start_agent()), mend).expect("served in the end");
}

#[test]
fn a_pod_that_is_not_where_its_manifest_says_stays_held() {
    let Some(pair) = Pair::enrolled("a_pod_that_is_not_where_its_manifest_says_stays_held") else { return };
    pair.server.serve_echo(8080);
    let good = pair.client.object().to_string();
    let own = pair.client.netns().path().display().to_string();
    let lost = good.replace(&own, "/run/netns/nowhere");
    assert_ne!(lost, good);
    let file = pair.client.manifest_file();

    // While the agent runs.
    let lose = |pair: &Pair| {
        pair.mesh.write_manifest(&file, &lost);
        eventually(DEADLINE, "the agent misses the pod", || (waiting_pods(&pair.agent_a) == 1).then_some(()));
    };
    check_held(&pair, lose, || pair.mesh.write_manifest(&file, &good)).expect("served in the end");
    pair.mesh.wait_enrolled(&[&pair.client]);

    // While it does not; then nobody wants the pod any more.
    pair.agent_a.kill();
    pair.mesh.write_manifest(&file, &lost);
    let restart =
        |pair: &Pair| drop(pair.a.agent().spawn().wait_log("what it misses", |line| line.contains("cannot join")));
    let told = check_held(&pair, restart, || pair.client.opt_out()).expect_err("captured, and now nobody is there");
    assert_eq!(told.kind(), io::ErrorKind::ConnectionRefused);
    let marker = Marker::new();
    let capture = pair.mesh.capture();
    pair.client.connect(pair.server.addr(8080)).exchange(&marker);
    capture.stop().assert_clear_text_seen(&marker);
}

/// After `begin` a connection of the client waits, and nothing crosses. Returns what becomes of it after `end`.
fn check_held(pair: &Pair, begin: impl FnOnce(&Pair), end: impl FnOnce()) -> io::Result<()> {
    begin(pair);
    let (secret, connections, to) = (Marker::new(), Mutex::default(), pair.server.addr(8080));
    thread::scope(|scope| {
        let capture = pair.mesh.capture();
        let connecting = scope.spawn(|| attempt(&connections, &pair.client, to, secret.as_ref(), PATIENCE));
        holds_for(Duration::from_millis(1500), "the connection waits", || !connecting.is_finished());
        let wire = capture.stop();
        wire.assert_never_in_clear(&secret);
        wire.assert_only_tls();
        assert_eq!(wire.streams().iter().filter(|s| s.destination == to).count(), 0, "nothing went past the agent");
        end();
    });
    let only = connections.into_inner().ok().and_then(|mut connections| connections.pop());
    only.map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |connection| connection.result)
}

fn waiting_pods(agent: &Agent) -> usize {
    let dump = agent.config_dump();
    dump["pods"].as_array().into_iter().flatten().filter(|pod| pod["enrolled"] == false).count()
}
