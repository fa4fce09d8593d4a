//! Peers at a pod's HBONE port that have no business there, or that take its time, whichever protocol they ask for: what they do is
//! refused or contained, said once, and the next good connection works.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::{DEADLINE, eventually};

use super::intruder::{Protocol, Tls};
use super::passport::Passport;
use super::scene::Scene;
use super::usage::{Usage, raise_own_limit};
use super::{frames, http2};
use crate::fixture::{Pair, scaled};

/// A peer has ten seconds for each step before a tunnel stands; a header block that does not end is noticed some seconds later.
const PATIENCE: Duration = Duration::from_secs(20);

/// How far one who slows down gets, and what it sends then: a byte at a time.
type Slow = (&'static str, fn(&Scene, Protocol) -> io::Result<Dripper>);

#[test]
fn who_cannot_prove_to_be_of_the_mesh_gets_nothing_by_hbone() {
    let Some(scene) = Scene::new("who_cannot_prove_to_be_of_the_mesh_gets_nothing_by_hbone") else { return };
    assert_members_only(&scene, Protocol::Hbone, |tls, application| {
        let mut raw = http2::Raw::begin(tls).ok()?;
        raw.ask(1, &http2::connect(1, application)).map(|status| status.to_string())
    });
}

#[test]
fn who_cannot_prove_to_be_of_the_mesh_gets_nothing_by_sotto() {
    let Some(scene) = Scene::new("who_cannot_prove_to_be_of_the_mesh_gets_nothing_by_sotto") else { return };
    assert_members_only(&scene, Protocol::Sotto, |tls, application| {
        let mut raw = frames::Raw::begin(tls).ok()?;
        let _ = raw.send(&frames::open(1, application));
        raw.read_frame().map(|frame| format!("{frame:?}"))
    });
}

/// `ask` is for what comes back on a connection.
fn assert_members_only(scene: &Scene, protocol: Protocol, ask: impl Fn(Tls, &str) -> Option<String>) {
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
        let Ok(tls) = scene.intruder.tls(scene.target(), passport, protocol) else { continue };
        let address = tls.address();
        assert_eq!(ask(tls, &scene.application()), None, "{passport:?}");
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
    eventually(DEADLINE, "only so many handshakes are under way at a time", || {
        let now = Usage::of(&scene.pair.agent_b);
        (now.descriptors <= scene.before.descriptors + 64 + 8 && scene.refused("handshakes_per_peer") > 0.0)
            .then_some(())
    });
    scene.assert_bounded("silent strangers");
    // A new tunnel, from a pod that has none yet.
    let newcomer = scene.pair.a.pod("newcomer").start();
    scene.pair.mesh.wait_enrolled(&[&newcomer]);
    let start = Instant::now();
    newcomer.connect(scene.pair.server.addr(8080)).exchange("hello");
    assert!(start.elapsed() < Duration::from_secs(5), "the newcomer waited for {:?}", start.elapsed());
    // Members, too, may only have so many tunnels.
    for protocol in Protocol::ALL {
        let before = scene.refused("tunnels_per_peer");
        let tunnels: Vec<_> = (0..80).map(|_| scene.member(protocol)).collect();
        eventually(DEADLINE, "tunnels over the limit are refused", || {
            (scene.refused("tunnels_per_peer") > before).then_some(())
        });
        drop(tunnels);
    }
    drop(silent);
    scene.assert_contained();
}

/// A connection on which bytes are sent one at a time, slowly.
enum Dripper {
    Tcp(TcpStream),
    Tls(Box<Tls>),
}

impl Dripper {
    /// Whether the agent has ended the connection.
    fn is_cut_off_by(&mut self, byte: u8) -> bool {
        let sent = match self {
            Self::Tcp(stream) => stream.write_all(&[byte]),
            Self::Tls(tls) => tls.send(&[byte]),
        };
        sent.is_err()
    }
}

#[test]
fn who_takes_too_long_to_begin_is_given_up() {
    let Some(scene) = Scene::new("who_takes_too_long_to_begin_is_given_up") else { return };
    let slow: [Slow; 3] = [
        ("half a ClientHello", |scene, protocol| {
            let mut stream = scene.intruder.dial(scene.target());
            let hello = scene.intruder.client_hello(scene.target(), protocol);
            stream.write_all(&hello[..hello.len() / 2])?;
            Ok(Dripper::Tcp(stream))
        }),
        ("a ClientHello, and then records without end", |scene, protocol| {
            let mut stream = scene.intruder.dial(scene.target());
            stream.write_all(&scene.intruder.client_hello(scene.target(), protocol))?;
            // ChangeCipherSpec may come in between, of which nothing has to be taken notice. The record is long.
            stream.write_all(&[23, 3, 3, 0x40, 0])?;
            Ok(Dripper::Tcp(stream))
        }),
        ("nothing in its tunnel", |scene, protocol| {
            let mut tls = scene.member(protocol);
            match protocol {
                // A header block that does not end.
                Protocol::Hbone => {
                    let mut raw = http2::Raw::begin(tls)?;
                    raw.send(&http2::frame(http2::HEADERS, 0, 1, &http2::block(&[(":method", "CONNECT")])))?;
                    // CONTINUATION, as long as a frame may be.
                    raw.send(&[0, 0x40, 0, http2::CONTINUATION, 0, 0, 0, 0, 1])?;
                    tls = raw.into_tls();
                }
                // A HELLO that does not end.
                Protocol::Sotto => tls.send(&[0, 0, 0, 0, frames::HELLO, 0, 0x20, 0])?,
            }
            Ok(Dripper::Tls(Box::new(tls)))
        }),
    ];
    let begun = Instant::now();
    let mut under_way: Vec<(String, Dripper)> = Vec::new();
    for protocol in Protocol::ALL {
        for (what, begin) in slow {
            under_way.push((format!("{protocol:?}: {what}"), begin(&scene, protocol).expect("it begins")));
        }
    }
    while !under_way.is_empty() {
        assert!(
            begun.elapsed() < PATIENCE,
            "still there: {:?}",
            under_way.iter().map(|(what, _)| what).collect::<Vec<_>>()
        );
        // What the test is about: something comes all the time, and never enough.
        thread::sleep(Duration::from_millis(100));
        under_way.retain_mut(|(what, dripper)| {
            let is_gone = dripper.is_cut_off_by(0);
            if is_gone {
                println!("{what}: given up after {:?}", begun.elapsed());
            }
            !is_gone
        });
    }
    scene.assert_contained();
}

#[test]
fn readers_that_stall_for_good_slow_nobody_down_by_hbone() {
    let test = "readers_that_stall_for_good_slow_nobody_down_by_hbone";
    if let Some(scene) = Scene::speaking(test, Protocol::Hbone) {
        println!("{}", assert_stalled_readers_slow_nobody_down(&scene));
    }
}

#[test]
fn readers_that_stall_for_good_slow_nobody_down_by_sotto() {
    let test = "readers_that_stall_for_good_slow_nobody_down_by_sotto";
    if let Some(scene) = Scene::speaking(test, Protocol::Sotto) {
        println!("{}", assert_stalled_readers_slow_nobody_down(&scene));
    }
}

/// Says what it saw.
fn assert_stalled_readers_slow_nobody_down(scene: &Scene) -> String {
    const STALLED: usize = 60;
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
        // How much more comes in a second is what shows whether they have.
        thread::sleep(Duration::from_secs(1));
        (before > 0.0 && received() - before < 1e6).then_some(before)
    });
    let (rate_beside, latency_beside) = measure();
    let report = format!(
        "{STALLED} stalled readers: {:.0} -> {:.0} MB/s, p50 {latency:?} -> {latency_beside:?}, {:.1} MB wait, RSS {:?} KiB (client's), {:?} KiB (server's)",
        rate / 1e6,
        rate_beside / 1e6,
        waiting / 1e6,
        Usage::of(&scene.pair.agent_a).memory,
        Usage::of(&scene.pair.agent_b).memory,
    );
    // Other tests share the machine: half would be noise, a tenth would be a queue behind the stalled.
    assert!(rate_beside > rate / 4.0 && latency_beside < latency * 8 + Duration::from_millis(5), "{report}");
    drop(stalled);
    eventually(DEADLINE, "nothing waits any more", || (received() < 3e6).then_some(()));
    report
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
