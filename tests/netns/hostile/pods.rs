//! Applications in enrolled pods that behave badly: the agent sheds what it cannot carry, other pods do not notice, and when it is
//! over nothing is left.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::{DEADLINE, Mesh, Site, eventually};
use socket2::SockRef;

use super::usage::{Usage, crowd, raise_own_limit, reset_when_dropped, serve_idle};
use crate::fixture::{Pair, scaled};

/// The middle one of the times that `number` new connections take, from connect() to the first answer.
fn median(site: &Site, to: SocketAddr, number: usize) -> Duration {
    let mut times: Vec<Duration> = (0..number)
        .map(|_| {
            let start = Instant::now();
            site.connect(to).exchange("ping");
            start.elapsed()
        })
        .collect();
    times.sort();
    times[number / 2]
}

#[test]
fn a_flood_of_connections_leaves_other_pods_their_share() {
    let Some(pair) = Pair::enrolled("a_flood_of_connections_leaves_other_pods_their_share") else { return };
    raise_own_limit();
    let number = scaled("SOTTO_TEST_FLOOD", 3_000);
    let other = pair.a.pod("other").start();
    pair.mesh.wait_enrolled(&[&other]);
    pair.server.serve_echo(8080);
    serve_idle(&pair.server, 9090);
    let (to, echo) = (pair.server.addr(9090), pair.server.addr(8080));
    let quiet = median(&other, echo, 40);
    crowd(&pair.client, to, 10);
    let before = Usage::of(&pair.agent_a);

    let flooder = pair.client.clone();
    let flood = std::thread::spawn(move || crowd(&flooder, to, number));
    let beside = median(&other, echo, 40);
    let held = flood.join().expect("the flood ends");
    let under = median(&other, echo, 40);
    println!(
        "{number} connections, {} carried: another pod's p50 {quiet:?}, {beside:?} meanwhile, {under:?} then",
        held.len()
    );
    assert!(
        beside < Duration::from_secs(1) && under < quiet * 10 + Duration::from_millis(20),
        "{quiet:?} {beside:?} {under:?}"
    );
    assert!(held.len() >= number.min(3_000), "{} of {number} carried", held.len());
    drop(held);
    before.wait_back(&pair.agent_a, number / 200 + 2);
}

#[test]
fn rude_clients_leave_nothing() {
    let Some(pair) = Pair::enrolled("rude_clients_leave_nothing") else { return };
    let number = scaled("SOTTO_TEST_RUDE", 300);
    let Pair { client, server, .. } = &pair;
    server.serve_echo(8080);
    server.serve(7070, |conn| {
        // Never reads, never ends by itself, and has no more to say.
        let mut stream = conn.stream();
        let _ = stream.write_all(b"!");
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.set_read_timeout(None);
        let _ = SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
        let gone = || SockRef::from(stream).take_error().is_ok_and(|error| error.is_some());
        eventually(Duration::from_secs(60), "the client's reset arrives", || gone().then_some(()));
    });
    client.connect(server.addr(8080)).exchange("hello");
    let before = [&pair.agent_a, &pair.agent_b].map(Usage::of);
    let block = vec![b'x'; 64 * 1024];
    let dial =
        |port| client.netns().run(|| TcpStream::connect_timeout(&server.addr(port), DEADLINE)).expect("it connects");
    for n in 0..number {
        let mut stream = dial(8080);
        let _ = stream.write_all(&block[..n * 200 % block.len()]);
        match n % 3 {
            // Half-closes and vanishes, with what came back unread: the kernel answers further data with RST.
            0 => stream.shutdown(Shutdown::Write).unwrap(),
            // Resets in the middle.
            1 => reset_when_dropped(&stream),
            // Vanishes without a word.
            _ => {}
        }
    }
    // The application's half is closed, its windows are full, and then the client resets.
    for _ in 0..10 {
        let mut stream = dial(7070);
        stream.read_exact(&mut [0]).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while stream.write_all(&block).is_ok() {}
        reset_when_dropped(&stream);
    }
    for (before, agent) in before.iter().zip([&pair.agent_a, &pair.agent_b]) {
        before.wait_back(agent, 2);
    }
    client.connect(server.addr(8080)).exchange("hello");
}

#[test]
fn the_agents_own_ports_lead_nowhere() {
    let Some(pair) = Pair::enrolled("the_agents_own_ports_lead_nowhere") else { return };
    let outside = pair.mesh.external("outside");
    pair.server.serve_echo(8080);
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    let before = Usage::of(&pair.agent_a);
    let neighbour = pair.a.pod("neighbour").start();
    pair.mesh.wait_enrolled(&[&neighbour]);
    let joined = Usage::of(&pair.agent_a);
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    for port in [15001, 15006, 15008] {
        let own = [pair.client.addr(port), pair.client.addr6(port), loopback(port)];
        for to in own.into_iter().chain([pair.server.addr(port), neighbour.addr(port), neighbour.addr6(port)]) {
            assert_nothing_there(&pair.client, to);
        }
        assert_nothing_there(&outside, pair.client.addr(port));
    }
    joined.wait_back(&pair.agent_a, 2);
    assert!(joined.tasks > before.tasks);
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
}

/// Refused, or closed without an answer to anything.
#[track_caller]
fn assert_nothing_there(site: &Site, to: SocketAddr) {
    let Ok(conn) = site.try_connect(to, DEADLINE) else { return };
    let mut stream = conn.stream();
    let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let mut answer = Vec::<u8>::new();
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("{to} hangs"),
            Err(_) => break,
        }
    }
    // A TLS alert is an answer to nothing.
    assert!(answer.is_empty() || answer[0] == 21, "{to} answered {answer:?}");
}

#[test]
fn a_pod_without_free_ports_recovers() {
    let Some(pair) = Pair::enrolled("a_pod_without_free_ports_recovers") else { return };
    let outside = pair.mesh.external("outside");
    serve_idle(&outside, 9090);
    outside.serve_echo(8080);
    serve_idle(&pair.server, 9090);
    pair.server.serve_echo(8080);
    // The application's sockets and the agent's take turns at these.
    pair.client.netns().sysctl("net/ipv4/ip_local_port_range", "40000 40039");
    let before = Usage::of(&pair.agent_a);
    for to in [outside.addr(9090), pair.server.addr(9090)] {
        let held = crowd(&pair.client, to, 100);
        held.iter().for_each(reset_when_dropped);
        assert!(!held.is_empty() && held.len() <= 40, "{} connections with 40 ports", held.len());
        drop(held);
        before.wait_back(&pair.agent_a, 2);
    }
    // Closed connections keep their ports for a minute.
    pair.client.netns().sysctl("net/ipv4/ip_local_port_range", "41000 41999");
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    pair.client.connect(outside.addr(8080)).exchange("hello");
}

#[test]
fn closed_connections_do_not_hold_a_pods_ports() {
    let Some(pair) = Pair::enrolled("closed_connections_do_not_hold_a_pods_ports") else { return };
    let Pair { client, server, .. } = &pair;
    let ports = [8080, 8081, 8082];
    for port in ports {
        server.serve_echo(port);
    }
    client.connect(server.addr(8080)).exchange("hello");
    // Not the mesh's tunnel, which is there already: only the application uses these.
    client.netns().sysctl("net/ipv4/ip_local_port_range", "40000 40019");
    let attempt = |to| client.netns().run(|| TcpStream::connect_timeout(&to, DEADLINE));
    // Three times as many as there are ports; each destination could have all of them for itself without the mesh.
    for to in ports.map(|port| server.addr(port)) {
        for _ in 0..20 {
            let mut stream = eventually(Duration::from_secs(20), "a port is free", || attempt(to).ok());
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("the application answers");
        }
    }
}

#[test]
fn an_agent_without_descriptors_sheds_load_and_recovers() {
    let Some(mesh) = Mesh::new("an_agent_without_descriptors_sheds_load_and_recovers") else { return };
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let (client, other, server) = (a.pod("client").start(), a.pod("other").start(), b.pod("server").start());
    serve_idle(&server, 9090);
    server.serve_echo(8080);
    mesh.namespace("demo").enrol();
    let agents = [a.agent().open_files(256).start(), b.start_agent()];
    mesh.wait_enrolled(&[&client, &other, &server]);
    for pod in [&client, &other] {
        pod.connect(server.addr(8080)).exchange("hello");
    }
    let before = Usage::of(&agents[0]);
    let held = crowd(&client, server.addr(9090), 400);
    println!(
        "{} of 400 connections carried with 256 descriptors, {} in use",
        held.len(),
        Usage::of(&agents[0]).descriptors
    );
    assert!((20..200).contains(&held.len()), "{} carried", held.len());
    let line = agents[0].wait_log("what ran out", |line| line.contains("WARN") && line.contains("RLIMIT_NOFILE"));
    assert!(line.contains("176"), "the limit is named: {line}");
    let lines = agents[0].log().lines().filter(|line| line.contains("RLIMIT_NOFILE")).count();
    assert!(lines <= 10, "{lines} lines about one thing");
    assert!(agents[0].metrics().sum("sotto_refused_total", &[("limit", "descriptors")]) >= 200.0);
    // The other pod of the node has its share.
    for _ in 0..10 {
        other.connect(server.addr(8080)).exchange("hello");
    }
    assert_idle(agents[0].pid());
    drop(held);
    before.wait_back(&agents[0], 2);
    client.connect(server.addr(8080)).exchange("hello");
    let again = crowd(&client, server.addr(9090), 20);
    assert_eq!(again.len(), 20);
}

/// An agent that has no work uses next to no processor time: it waits for room, it does not ask for it over and over.
#[track_caller]
fn assert_idle(pid: u32) {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the agent runs");
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<u64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // utime and stime: fields 14 and 15 of proc_pid_stat(5); the state is field 3.
        fields[11] + fields[12]
    };
    let before = ticks();
    // The second that is measured.
    std::thread::sleep(Duration::from_secs(1));
    let used = ticks() - before;
    assert!(used < 40, "{used} ticks of 10 ms in a second of idleness");
}
