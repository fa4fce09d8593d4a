//! Peers at a pod's HBONE port that have no business there, or that have and abuse it: what they do is refused or contained, said
//! once, and the next good connection works.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use harness::{DEADLINE, Server, eventually};

use super::intruder::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, Intruder, PING, Passport, RST_STREAM, Raw, block, connect, frame,
};
use super::usage::{Usage, raise_own_limit};
use crate::fixture::{Pair, scaled};

const HBONE: u16 = 15008;

/// What a crowd of hostile peers may cost an agent for good, in KiB.
const MEMORY_BOUND: usize = 96 * 1024;

struct Scene {
    pair: Pair,
    intruder: Intruder,
    echo: Server,
    before: Usage,
}

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let pair = Pair::enrolled(test)?;
        let intruder = Intruder::new(&pair.mesh, "intruder");
        let echo = pair.server.serve_echo(8080);
        pair.client.connect(pair.server.addr(8080)).exchange("hello");
        let before = Usage::of(&pair.agent_b);
        Some(Self { pair, intruder, echo, before })
    }

    fn target(&self) -> SocketAddr {
        self.pair.server.addr(HBONE)
    }

    fn tunnel(&self) -> Raw {
        self.intruder.tunnel(self.target())
    }

    fn application(&self) -> String {
        self.pair.server.addr(8080).to_string()
    }

    fn refused(&self, limit: &str) -> f64 {
        self.pair.agent_b.metrics().sum("sotto_refused_total", &[("limit", limit)])
    }

    /// Good connections work, the agent has said who it was, and holds nothing any more.
    #[track_caller]
    fn assert_contained(&self) {
        self.pair.client.connect(self.pair.server.addr(8080)).exchange("hello");
        let address = format!("peer={}", self.intruder.site.ip());
        self.pair.agent_b.wait_log("who it was", |line| line.contains("WARN") && line.contains(&address));
        let after = self.before.wait_back(&self.pair.agent_b, 2);
        assert!(after.memory <= self.before.memory + MEMORY_BOUND, "{:?} -> {after:?}", self.before);
        let warnings = self.pair.agent_b.log().lines().filter(|line| line.contains("WARN")).count();
        assert!(warnings < 60, "{warnings} warnings: the log was flooded");
    }
}

#[test]
fn who_cannot_prove_to_be_of_the_mesh_gets_nothing() {
    let Some(scene) = Scene::new("who_cannot_prove_to_be_of_the_mesh_gets_nothing") else { return };
    let known = scene.echo.peers().len();
    for (passport, reason) in [
        (Passport::Missing, "no certificate"),
        (Passport::Expired, "expired"),
        (Passport::NotYetValid, "not valid yet"),
        (Passport::WrongRoot, "root"),
        (Passport::WrongTrustDomain, "trust domain"),
        (Passport::TwoNames, "2 "),
        (Passport::Authority, "an authority's own"),
    ] {
        let asked = scene.intruder.tls(scene.target(), passport).map(|mut raw| {
            let _ = raw.send_preface();
            (raw.address(), raw.ask(1, &connect(1, &scene.application())))
        });
        let Ok((address, answer)) = asked else { continue };
        assert_eq!(answer, None, "{passport:?}");
        let line = scene.pair.agent_b.wait_log(&format!("{passport:?}"), |line| line.contains(&address.to_string()));
        assert!(line.contains(reason), "{passport:?} should be told as {reason:?}: {line}");
    }
    for text in
        [&b"GET / HTTP/1.1\r\nhost: server\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 4096], &[0; 4096]]
    {
        let mut stream = scene.intruder.dial(scene.target());
        let _ = stream.write_all(text);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.windows(4).any(|window| window == b"HTTP"), "{answer:?}");
    }
    assert_eq!(scene.echo.peers().len(), known, "the application was bothered");
    let labels = [("response_flags", "TLS_FAILURE")];
    let failed = || scene.pair.agent_b.metrics().sum("istio_tcp_connections_failed_total", &labels);
    eventually(DEADLINE, "all 11 are counted", || (failed() >= 11.0).then_some(()));
    scene.assert_contained();
}

#[test]
fn a_tunnel_leads_nowhere_but_to_its_own_pod() {
    let Some(mut scene) = Scene::new("a_tunnel_leads_nowhere_but_to_its_own_pod") else { return };
    let neighbour = scene.pair.b.pod("neighbour").start();
    scene.pair.mesh.wait_enrolled(&[&neighbour]);
    scene.before = Usage::of(&scene.pair.agent_b);
    let bothered = neighbour.serve_echo(8080);
    let mut raw = scene.tunnel();
    let own = |port: u16| scene.pair.server.addr(port).to_string();
    let targets = [neighbour.addr(8080).to_string(), own(15001), own(15006), own(15008), "127.0.0.1:8080".to_owned()];
    let names = ["server.demo.svc.cluster.local:8080", "server", "10.201.2.2:99999", "10.201.2.2:", "[::1", ""]
        .map(str::to_owned);
    let mut stream = 1;
    for authority in targets.iter().chain(&names) {
        let answer = raw.ask(stream, &connect(stream, authority));
        assert!(matches!(answer, Some(400) | None), "CONNECT {authority}: {answer:?}");
        stream += 2;
    }
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "10.201.2.2:8080"), (":path", "/")];
    assert_eq!(raw.ask(stream, &frame(HEADERS, END_HEADERS | 1, stream, &block(&get))), Some(400));
    // 128 KiB of headers, in eight frames.
    stream += 2;
    let filler = "x".repeat(15_000);
    let mut giant = frame(HEADERS, 0, stream, &block(&[(":method", "CONNECT"), (":authority", &scene.application())]));
    (0..8).for_each(|n| giant.extend(frame(CONTINUATION, 0, stream, &block(&[(&format!("x-{n}"), &filler)]))));
    giant.extend(frame(CONTINUATION, END_HEADERS, stream, &[]));
    assert_ne!(raw.ask(stream, &giant), Some(200));
    // All of that was their own fault: the tunnel, or at least the next one, still works.
    stream += 2;
    let application = scene.application();
    let again =
        raw.ask(stream, &connect(stream, &application)).or_else(|| scene.tunnel().ask(1, &connect(1, &application)));
    assert_eq!(again, Some(200));
    assert_eq!(bothered.peers(), []);
    assert!(scene.refused("not_hbone") >= 1.0);
    drop(raw);
    scene.assert_contained();
}

#[test]
fn floods_in_a_tunnel_end_it_and_nothing_else() {
    let Some(scene) = Scene::new("floods_in_a_tunnel_end_it_and_nothing_else") else { return };
    let request = |stream: u32| connect(stream, &scene.application());
    let many =
        |number: u32, bytes: &dyn Fn(u32) -> Vec<u8>| (0..number).flat_map(|n| bytes(2 * n + 1)).collect::<Vec<u8>>();
    let flood = |what: &str, bytes: &[u8]| {
        let mut raw = scene.tunnel();
        let begun = Instant::now();
        // It may be cut off before it has sent everything.
        let _ = raw.send(bytes);
        let sent = begun.elapsed();
        raw.expect_end(what);
        println!("{what}: sent after {sent:?}, ended after {:?}", begun.elapsed());
    };
    let cancel = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    flood("rapid reset", &many(20_000, &|stream| [request(stream), cancel(stream)].concat()));
    flood("ten thousand streams", &many(10_000, &request));
    let filler = block(&[("x", &"x".repeat(10_000))]);
    let endless: Vec<u8> = (0..2_000).flat_map(|_| frame(CONTINUATION, 0, 1, &filler)).collect();
    flood("CONTINUATION", &[frame(HEADERS, 0, 1, &filler), endless].concat());
    flood("a window that overflows", &[request(1), frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2)].concat());
    // To a stream that was never opened.
    flood("data for nobody", &frame(DATA, 0, 7, &[0; 16_000]).repeat(100));
    // PINGs are answered, as long as somebody reads the answers.
    let mut raw = scene.tunnel();
    let pings = frame(PING, 0, 0, b"question").repeat(1_000);
    let begun = Instant::now();
    let _ = (0..200).try_for_each(|_| raw.send(&pings));
    drop(raw);
    println!("PING: given up after {:?}", begun.elapsed());
    scene.assert_contained();
    println!("all is over after {:?}", begun.elapsed());
}

#[test]
fn silent_strangers_do_not_keep_others_out() {
    let Some(scene) = Scene::new("silent_strangers_do_not_keep_others_out") else { return };
    raise_own_limit();
    let number = scaled("SOTTO_TEST_STRANGERS", 1_000);
    // The first bytes of a ClientHello, and then nothing.
    let silent: Vec<TcpStream> = (0..number)
        .map(|_| {
            let mut stream = scene.intruder.dial(scene.target());
            let _ = stream.write_all(&[22, 3, 1, 1, 0, 1]);
            stream
        })
        .collect();
    let held = eventually(DEADLINE, "only so many handshakes are under way at a time", || {
        let now = Usage::of(&scene.pair.agent_b);
        (now.descriptors <= scene.before.descriptors + 64 + 8 && scene.refused("handshakes_per_peer") > 0.0)
            .then_some(now)
    });
    assert!(held.memory <= scene.before.memory + MEMORY_BOUND, "{:?} -> {held:?}", scene.before);
    // A new tunnel, from a pod that has none yet.
    let newcomer = scene.pair.a.pod("newcomer").start();
    scene.pair.mesh.wait_enrolled(&[&newcomer]);
    let start = Instant::now();
    newcomer.connect(scene.pair.server.addr(8080)).exchange("hello");
    assert!(start.elapsed() < Duration::from_secs(5), "the newcomer waited for {:?}", start.elapsed());
    // Members, too, may only have so many tunnels.
    let tunnels: Vec<Raw> = (0..80).map(|_| scene.tunnel()).collect();
    eventually(DEADLINE, "tunnels over the limit are refused", || {
        (scene.refused("tunnels_per_peer") > 0.0).then_some(())
    });
    drop((tunnels, silent));
    scene.assert_contained();
}

#[test]
fn a_header_block_that_never_ends_is_given_up() {
    let Some(scene) = Scene::new("a_header_block_that_never_ends_is_given_up") else { return };
    let mut slow = scene.tunnel();
    slow.send(&frame(HEADERS, 0, 1, &block(&[(":method", "CONNECT")]))).unwrap();
    slow.expect_end("slow headers");
    scene.assert_contained();
}

#[test]
fn readers_that_stall_for_good_slow_nobody_down() {
    const STALLED: usize = 60;
    let Some(scene) = Scene::new("readers_that_stall_for_good_slow_nobody_down") else { return };
    let Pair { client, server, .. } = &scene.pair;
    server.serve(7070, |conn| {
        let block = vec![b'x'; 64 * 1024];
        let _ = conn.stream().set_write_timeout(None);
        // Until the reader goes away.
        while conn.stream().write_all(&block).is_ok() {}
    });
    let measure = || {
        let mut conn = client.connect(server.addr(8080));
        let mut times: Vec<Duration> = (0..300)
            .map(|_| {
                let start = Instant::now();
                conn.exchange("ping");
                start.elapsed()
            })
            .collect();
        times.sort();
        (throughput(client.connect(server.addr(7070)).stream(), Duration::from_secs(2)), times[times.len() / 2])
    };
    let (rate, latency) = measure();
    let stalled: Vec<_> = (0..STALLED).map(|_| client.connect(server.addr(7070))).collect();
    // They stall once all windows and buffers on the way are full: the agent takes in no more.
    let received = || scene.pair.agent_a.metrics().sum("sotto_waiting_bytes", &[]);
    let waiting = eventually(Duration::from_secs(40), "the readers have stalled", || {
        let before = received();
        thread::sleep(Duration::from_secs(1));
        (before > 0.0 && received() - before < 1e6).then_some(before)
    });
    let (rate_beside, latency_beside) = measure();
    let report = format!(
        "{:.0} -> {:.0} MB/s, p50 {latency:?} -> {latency_beside:?}, {:.1} MB wait, RSS {:?} KiB (client's), {:?} KiB (server's)",
        rate / 1e6,
        rate_beside / 1e6,
        waiting / 1e6,
        Usage::of(&scene.pair.agent_a).memory,
        Usage::of(&scene.pair.agent_b).memory,
    );
    println!("{STALLED} stalled readers: {report}");
    // Other tests share the machine: half would be noise, a tenth would be a queue behind the stalled.
    assert!(rate_beside > rate / 4.0 && latency_beside < latency * 8 + Duration::from_millis(5), "{report}");
    drop(stalled);
    eventually(DEADLINE, "nothing waits any more", || (received() < 3e6).then_some(()));
}

/// Bytes per second that a reader gets.
fn throughput(mut stream: &TcpStream, period: Duration) -> f64 {
    let mut buffer = vec![0; 256 * 1024];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < period {
        count += stream.read(&mut buffer).expect("the server goes on sending");
    }
    count as f64 / start.elapsed().as_secs_f64()
}
