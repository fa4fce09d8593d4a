//! Pods behind this agent and pods behind a stock ztunnel speak with each other, in both directions, under one root.
//! Needs `ZTUNNEL_BIN`.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Agent, Conn, DEADLINE, Marker, Mesh, Node, Pod, Ztunnel, ZtunnelProgram, eventually};

use crate::fixture::assert_fails;

/// A port that the ztunnel's policy refuses to everybody.
const DENIED: u16 = 9999;

/// How long a connection may wait for a proxy that restarts.
const RESTART: Duration = Duration::from_secs(20);

/// What a container may take to start.
const START: Duration = Duration::from_secs(1);

struct Interop {
    program: ZtunnelProgram,
    a: Node,
    agent: Agent,
    ztunnel: Ztunnel,
    /// On node a, carried by the agent.
    ours: Pod,
    /// On node b, which has no agent, carried by the ztunnel.
    theirs: Pod,
    mesh: Mesh,
}

impl Interop {
    fn set_up(test: &str) -> Option<Self> {
        Self::with_agent_argument(test, ("--drain", "1s"))
    }

    fn with_agent_argument(test: &str, (name, value): (&str, &str)) -> Option<Self> {
        let program = ZtunnelProgram::find(test)?;
        let mesh = Mesh::new(test)?;
        program.share_authority(&mesh);
        let (a, b) = (mesh.node("a"), mesh.node("b"));
        let (ours, theirs) = (a.pod("ours").start(), b.pod("theirs").start());
        let agent = a.agent().arg(name, value).spawn();
        let ztunnel = program.start(&mesh, &theirs, &[&ours, &theirs], &[DENIED]);
        agent.wait_ready();
        mesh.namespace("demo").enrol();
        mesh.wait_enrolled(&[&ours, &theirs]);
        Some(Self { program, a, agent, ztunnel, ours, theirs, mesh })
    }

    /// Client and server, both ways.
    fn both_ways(&self) -> [(&Pod, &Pod); 2] {
        [(&self.ours, &self.theirs), (&self.theirs, &self.ours)]
    }

    fn restart_ztunnel(&self) -> Ztunnel {
        self.program.start(&self.mesh, &self.theirs, &[&self.ours, &self.theirs], &[DENIED])
    }
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn one_byte_is_carried_and_both_sides_name_both_ends() {
    let Some(interop) = Interop::set_up("one_byte_is_carried_and_both_sides_name_both_ends") else { return };
    for (client, server) in interop.both_ways() {
        let echo = server.serve_echo(8080);
        let secret = Marker::new();
        let capture = interop.mesh.capture();
        for (address, seen) in [(server.addr(8080), client.ip()), (server.addr6(8080), client.ip6())] {
            let mut conn = client.connect(address);
            conn.exchange("x");
            conn.exchange(&secret);
            assert_eq!(echo.peers().last().map(|peer| peer.ip()), Some(seen), "the application sees the client");
            assert_eq!(conn.peer_addr(), address, "and the client the application");
        }
        let wire = capture.stop();
        wire.assert_never_in_clear(&secret);
        wire.assert_tls13();
        let theirs = interop.ztunnel.wait_access("of this client", |e| e.source_identity() == client.identity());
        let ours = interop.agent.wait_access("of this client", |e| e.source_identity() == client.identity());
        for entry in [ours, theirs] {
            assert_eq!(entry.destination_identity(), server.identity(), "{}", entry.line());
            assert_eq!(entry.field("bytes_sent"), "49", "{}", entry.line());
            assert_eq!(entry.field("bytes_recv"), "49", "{}", entry.line());
        }
    }
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn a_hundred_megabytes_cross_each_way_and_both_sides_count_them() {
    const LENGTH: usize = 100_000_000;
    let name = "a_hundred_megabytes_cross_each_way_and_both_sides_count_them";
    let Some(interop) = Interop::set_up(name) else { return };
    // Nothing repeats in step with frames or buffers.
    let bytes: Vec<u8> = (0_u64..).map(|n| (n.wrapping_mul(n) >> 7).to_le_bytes()[0]).take(LENGTH).collect();
    for (client, server) in interop.both_ways() {
        server.serve_echo(8080);
        let conn = client.connect(server.addr(8080)).with_deadline(RESTART);
        let started = Instant::now();
        let received = thread::scope(|scope| {
            let sending = scope.spawn(|| {
                use std::io::Write as _;
                let mut stream = conn.stream();
                stream.write_all(&bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write)).expect("sent");
            });
            let mut received = Vec::with_capacity(LENGTH);
            std::io::Read::read_to_end(&mut conn.stream(), &mut received).expect("received");
            sending.join().expect("sent");
            received
        });
        assert!(received == bytes, "{} bytes came back, and not those that were sent", received.len());
        println!("{client} to {server}: 100 MB each way in {:.1?}", started.elapsed());

        let labels = |reporter| [("reporter", reporter), ("source_principal", &*client.identity())].map(own);
        let (ours, theirs) =
            if client.name() == "ours" { ("source", "destination") } else { ("destination", "source") };
        for family in ["istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"] {
            let (ours, theirs) = (labels(ours), labels(theirs));
            let by_us = || interop.agent.metrics().sum(family, &borrow(&ours));
            let by_them = || interop.ztunnel.metrics().sum(family, &borrow(&theirs));
            eventually(
                DEADLINE,
                &format!("both count {LENGTH} as {family}, not {} and {}", by_us(), by_them()),
                || (by_us() == LENGTH as f64 && by_them() == LENGTH as f64).then_some(()),
            );
        }
    }
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn half_closes_and_refusals_arrive_and_resets_end_the_connection() {
    let Some(interop) = Interop::set_up("half_closes_and_refusals_arrive_and_resets_end_the_connection") else {
        return;
    };
    for (client, server) in interop.both_ways() {
        server.serve_sink(8081);
        let mut conn = client.connect(server.addr(8081));
        conn.send(vec![b'x'; 100_000]);
        conn.half_close();
        assert_eq!(conn.receive_to_end(), b"100000", "{client}: the answer comes after the own end");

        let (told, hear) = mpsc::channel();
        server.serve(8082, move |mut conn| {
            conn.send("that is all");
            conn.half_close();
            let _ = told.send(conn.receive_to_end());
        });
        let mut conn = client.connect(server.addr(8082));
        assert_eq!(conn.receive_to_end(), b"that is all");
        conn.send("thank you");
        conn.half_close();
        assert_eq!(hear.recv_timeout(DEADLINE).expect("the server hears the rest"), b"thank you");

        server.serve(8083, |mut conn| {
            conn.expect("go");
            conn.reset();
        });
        let mut conn = client.connect(server.addr(8083));
        conn.send("go");
        assert_over(&conn);

        let (done, wait) = mpsc::channel();
        server.serve(8084, move |mut conn| {
            conn.expect("go");
            conn.send("ok");
            assert_over(&conn);
            let _ = done.send(());
        });
        let mut conn = client.connect(server.addr(8084));
        conn.send("go");
        conn.expect("ok");
        conn.reset();
        wait.recv_timeout(DEADLINE).expect("the server sees the end");
    }
    assert_fails(&interop.ours, interop.theirs.addr(9), DEADLINE);
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn what_their_policy_denies_is_reset_and_counted_as_denied() {
    let Some(interop) = Interop::set_up("what_their_policy_denies_is_reset_and_counted_as_denied") else { return };
    let echo = interop.theirs.serve_echo(DENIED);
    assert_fails(&interop.ours, interop.theirs.addr(DENIED), DEADLINE);
    assert_eq!(echo.peers(), []);
    let denied = [("response_flags", "DENY")];
    eventually(DEADLINE, "the denial is counted", || {
        (interop.agent.metrics().sum("istio_tcp_connections_failed_total", &denied) == 1.0).then_some(())
    });
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn two_hundred_connections_share_few_tunnels() {
    const COUNT: usize = 200;
    /// Theirs: a tunnel takes 100; ours: one for each data-plane thread. Twice that, for tunnels dialled at once.
    const TUNNELS: usize = 8;
    let Some(interop) = Interop::set_up("two_hundred_connections_share_few_tunnels") else { return };
    for (client, server) in interop.both_ways() {
        server.serve_echo(8080);
        let capture = interop.mesh.capture();
        let mut conns: Vec<_> = (0..COUNT).map(|_| client.connect(server.addr(8080))).collect();
        for round in 0..3 {
            for (number, conn) in conns.iter_mut().enumerate() {
                conn.exchange(format!("{round}: {number}\n"));
            }
        }
        let wire = capture.stop();
        let tunnels = wire.streams().iter().filter(|s| s.source.ip() == client.ip() && s.destination.port() == 15008);
        let tunnels = tunnels.count();
        assert!((1..=TUNNELS).contains(&tunnels), "{COUNT} connections of {client} took {tunnels} tunnels");
    }
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn our_certificates_are_renewed_while_traffic_flows() {
    const LIFETIME: Duration = Duration::from_secs(4);
    let name = "our_certificates_are_renewed_while_traffic_flows";
    let Some(interop) = Interop::with_agent_argument(name, ("--cert-lifetime", "4s")) else { return };
    let mut kept = interop.both_ways().map(|(client, server)| {
        server.serve_echo(8080);
        client.connect(server.addr(8080))
    });
    let start = Instant::now();
    while start.elapsed() < LIFETIME * 2 {
        for ((client, server), kept) in interop.both_ways().into_iter().zip(&mut kept) {
            kept.exchange("still here\n");
            client.connect(server.addr(8080)).exchange("hello");
        }
    }
    // A new process has no tunnel yet: its handshakes meet the certificates of now.
    drop(kept);
    interop.ztunnel.kill();
    let _ztunnel = interop.restart_ztunnel();
    let capture = interop.mesh.capture();
    for (client, server) in interop.both_ways() {
        client.connect(server.addr(8080)).exchange("hello");
    }
    capture.stop().assert_tls13();
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn a_ztunnel_that_restarts_is_waited_for() {
    let Some(interop) = Interop::set_up("a_ztunnel_that_restarts_is_waited_for") else { return };
    let (client, server) = (&interop.ours, &interop.theirs);
    server.serve_echo(8080);
    client.connect(server.addr(8080)).exchange("a tunnel is there");
    // Both the one that says good bye and the one that does not.
    let mut running = None::<Ztunnel>;
    for polite in [true, false] {
        let old = running.as_ref().unwrap_or(&interop.ztunnel);
        if polite {
            old.terminate();
        } else {
            old.kill();
        }
        thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                let conn = client.try_connect(server.addr(8080), RESTART).expect("the agent takes it");
                conn.with_deadline(RESTART).exchange("served by the next one");
            });
            running = Some(interop.restart_ztunnel());
            connecting.join().expect("no error reached the application");
        });
    }
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn connections_made_while_a_ztunnel_drains_are_not_lost() {
    let Some(interop) = Interop::set_up("connections_made_while_a_ztunnel_drains_are_not_lost") else { return };
    let (client, server) = (&interop.ours, &interop.theirs);
    server.serve_echo(8080);
    // Keeps the tunnel, and so the process, for the whole of its drain.
    let mut kept = client.connect(server.addr(8080));
    kept.exchange("a tunnel is there");
    thread::scope(|scope| {
        let ending = scope.spawn(|| {
            // 5 s: it no longer listens, and waits for the connection that is kept.
            interop.ztunnel.terminate();
            thread::sleep(START);
            interop.restart_ztunnel()
        });
        let mut count = 0;
        while !ending.is_finished() {
            let conn = client.try_connect(server.addr(8080), RESTART).expect("the agent takes it");
            conn.with_deadline(RESTART).exchange("served by one or the other");
            count += 1;
        }
        println!("{count} connections while the ztunnel restarted");
        let _next = ending.join().expect("it ended and started");
        client.connect(server.addr(8080)).exchange("served by the next one");
    });
}

#[test]
#[ignore = "needs ZTUNNEL_BIN"]
fn a_ztunnel_finds_an_agent_that_has_restarted() {
    let Some(interop) = Interop::set_up("a_ztunnel_finds_an_agent_that_has_restarted") else { return };
    let (client, server) = (&interop.theirs, &interop.ours);
    server.serve_echo(8080);
    client.connect(server.addr(8080)).exchange("a tunnel is there");
    let secret = Marker::new();
    let capture = interop.mesh.capture();
    interop.agent.terminate();
    let next = interop.a.start_agent();
    interop.mesh.wait_enrolled(&[&interop.ours]);
    client.connect(server.addr(8080)).exchange(&secret);
    next.kill();
    let _last = interop.a.start_agent();
    interop.mesh.wait_enrolled(&[&interop.ours]);
    client.connect(server.addr(8080)).exchange(&secret);
    let wire = capture.stop();
    wire.assert_never_in_clear(&secret);
    wire.assert_only_tls();
}

/// Claims that the other side has ended the connection. ztunnel tells a reset of one application to the other as an ordinary
/// end, in both roles, so nothing more can be claimed with one on the way.
#[track_caller]
fn assert_over(conn: &Conn) {
    use std::io::{ErrorKind, Read as _};
    match conn.stream().read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?} instead of an end on {conn}"),
    }
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn borrow(labels: &[(String, String); 2]) -> [(&str, &str); 2] {
    labels.each_ref().map(|(key, value)| (key.as_str(), value.as_str()))
}
