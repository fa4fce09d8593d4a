//! Peers that speak `sotto/1` and abuse it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use harness::{DEADLINE, eventually, holds_for};

use super::frames::{
    ACCEPT, AUTHORITY, Answer, BAGGAGE, CREDIT, DATA, EXTENSION, FIN, FIRST_CREDIT, HELLO, OPEN, PING, REFUSED_STREAM,
    RESET, Raw, field, frame, hello, open, reset,
};
use super::intruder::Protocol;
use super::scene::Scene;
use super::usage::{Usage, raise_own_limit, serve_idle};

/// How many streams an agent takes in one tunnel.
const STREAMS: usize = 1_000;

/// Whoever sends more than this without reading has been cut off, or nothing bounds what waits for it.
const MORE_THAN_BUFFERS_HOLD: usize = 96 << 20;

fn tunnel(scene: &Scene) -> Raw {
    Raw::begin(scene.member(Protocol::Sotto)).expect("HELLO is taken")
}

/// An application that sends for as long as somebody takes it.
fn serve_firehose(scene: &Scene, port: u16) -> String {
    scene.pair.server.serve(port, |conn| {
        let block = vec![b'x'; 64 * 1024];
        let _ = conn.stream().set_write_timeout(None);
        while conn.stream().write_all(&block).is_ok() {}
    });
    scene.pair.server.addr(port).to_string()
}

#[test]
fn a_sotto_tunnel_leads_nowhere_but_to_its_own_pod() {
    let Some(mut scene) = Scene::new("a_sotto_tunnel_leads_nowhere_but_to_its_own_pod") else { return };
    let neighbour = scene.pair.b.pod("neighbour").start();
    scene.pair.mesh.wait_enrolled(&[&neighbour]);
    scene.before = Usage::of(&scene.pair.agent_b);
    let bothered = neighbour.serve_echo(8080);
    let mut raw = tunnel(&scene);
    let mut stream = 1;
    for authority in [neighbour.addr(8080).to_string(), "x".repeat(8_000)].into_iter().chain(scene.forbidden()) {
        assert_eq!(raw.ask(stream, &open(stream, &authority)), Answer::Refused(400), "OPEN {authority}");
        stream += 1;
    }
    for fields in [vec![], field(AUTHORITY, &[0xff; 9]), field(BAGGAGE, b"service.name=server"), field(99, b"?")] {
        assert_eq!(raw.ask(stream, &frame(stream, OPEN, &fields)), Answer::Refused(400), "OPEN {fields:?}");
        stream += 1;
    }
    // What is not known is ignored, and what is known besides where to need not be right.
    let application = field(AUTHORITY, scene.application().as_bytes());
    let odd =
        [field(99, &[7; 3_000]), application, field(BAGGAGE, &[0xff; 3_000]), field(3, b"for=;;;"), field(4, b"zz")];
    assert_eq!(raw.ask(stream, &frame(stream, OPEN, &odd.concat())), Answer::Accepted);
    raw.send(&frame(stream, EXTENSION, &[1; 60_000])).expect("the tunnel goes on");
    raw.exchange(stream, b"all of that was their own fault");
    assert_eq!(bothered.peers(), []);
    assert!(scene.refused("not_hbone") >= 1.0);
    drop(raw);
    scene.assert_contained();
}

#[test]
fn who_breaks_the_protocol_is_expelled() {
    let Some(scene) = Scene::new("who_breaks_the_protocol_is_expelled") else { return };
    let application = scene.application();
    let request = |stream| open(stream, &application);
    let known = scene.echo.peers().len();
    let violations: [(&str, Vec<u8>); 22] = [
        ("zeros", vec![0; 4_096]),
        ("ones", vec![0xff; 4_096]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: server\r\n\r\n".to_vec()),
        ("a second HELLO", hello()),
        ("HELLO in a stream", frame(1, HELLO, &[])),
        ("a kind that nobody knows", frame(0, 100, &[])),
        ("an extension that is too long", frame(0, EXTENSION, &[0; 65_537])),
        ("OPEN of nothing", frame(0, OPEN, &field(AUTHORITY, application.as_bytes()))),
        ("OPEN that is too long", frame(1, OPEN, &[0; 8_193])),
        ("a field that is longer than its frame", frame(1, OPEN, &[AUTHORITY, 0xff, 0xff, b'1'])),
        ("a number that is used twice", [frame(3, OPEN, &[]), frame(3, OPEN, &[])].concat()),
        ("a number that is too late", [frame(3, OPEN, &[]), frame(2, OPEN, &[])].concat()),
        ("an end before the answer", [request(1), frame(1, DATA, b"early"), frame(1, FIN, b"")].concat()),
        ("no data", frame(1, DATA, b"")),
        ("data for nobody", frame(7, DATA, &[0; 16_000])),
        ("an answer of the client's", [request(1), frame(1, ACCEPT, &[])].concat()),
        ("FIN of nothing", frame(5, FIN, &[])),
        ("FIN with a text", frame(1, FIN, b"x")),
        ("half of a RESET", frame(1, RESET, &[0, 0])),
        ("CREDIT for nobody", frame(9, CREDIT, &[0, 0, 1, 0])),
        ("PING in a stream", frame(1, PING, b"question")),
    ];
    for (what, bytes) in violations {
        let mut raw = tunnel(&scene);
        raw.send(&bytes).expect("it is small");
        raw.expect_expelled(what);
    }
    let mut unannounced = scene.member(Protocol::Sotto);
    unannounced.send(&request(1)).expect("it is small");
    Raw(unannounced).expect_expelled("OPEN before HELLO");
    let mut raw = tunnel(&scene);
    raw.0.send_unsealed(&[0x17; 2_000]).expect("it is small");
    raw.0.expect_end("something that is not sealed");
    let mut raw = tunnel(&scene);
    let _ = (0..1_000).try_for_each(|_| raw.0.update_key());
    raw.0.expect_end("keys without end");
    let bothered = scene.echo.peers().len() - known;
    assert!(bothered <= 2, "{bothered} of those came to the application: of two who asked rightly at first");
    scene.assert_contained();
}

#[test]
fn floods_in_a_sotto_tunnel_end_it_and_nothing_else() {
    let Some(scene) = Scene::new("floods_in_a_sotto_tunnel_end_it_and_nothing_else") else { return };
    let application = scene.application();
    let known = scene.echo.peers().len();
    let begun = Instant::now();
    let mut raw = tunnel(&scene);
    let rapid: Vec<u8> = (1..=20_000).flat_map(|n| [open(n, &application), reset(n)].concat()).collect();
    // It is cut off before it has sent everything.
    let _ = raw.send(&rapid);
    raw.0.expect_end("rapid reset");
    println!("rapid reset: ended after {:?}, {} dials", begun.elapsed(), scene.echo.peers().len() - known);
    let deaf = scene.pair.server.serve(7071, |conn| {
        // Reads nothing until the other side is gone.
        let gone = || socket2::SockRef::from(conn.stream()).take_error().is_ok_and(|error| error.is_some());
        eventually(Duration::from_secs(60), "the tunnel is cut off", || gone().then_some(()));
    });
    let reader_less = scene.pair.server.addr(deaf.port()).to_string();
    let mut raw = tunnel(&scene);
    assert_eq!(raw.ask(1, &open(1, &reader_less)), Answer::Accepted);
    assert_cut_off(&scene, &mut raw, "data beyond credit", &frame(1, DATA, &[b'x'; 16_000]));
    let mut raw = tunnel(&scene);
    println!(
        "{}",
        assert_cut_off(
            &scene,
            &mut raw,
            "PINGs whose answers nobody reads",
            &frame(0, PING, b"question").repeat(1_000)
        )
    );
    let mut raw = tunnel(&scene);
    let refused: Vec<u8> = (1..=4_000_000).flat_map(|n| frame(n, OPEN, &[])).collect();
    let _ = raw.send(&refused);
    raw.0.expect_end("requests whose refusals nobody reads");
    scene.assert_bounded("requests whose refusals nobody reads");
    scene.assert_contained();
    println!("all is over after {:?}", begun.elapsed());
}

/// Sends the same again and again, reads nothing, and is cut off for it. Says after how much.
#[track_caller]
fn assert_cut_off(scene: &Scene, raw: &mut Raw, what: &str, bytes: &[u8]) -> String {
    let (begun, mut sent) = (Instant::now(), 0);
    while raw.send(bytes).is_ok() {
        sent += bytes.len();
        assert!(sent < MORE_THAN_BUFFERS_HOLD, "{what}: {sent} bytes were taken");
    }
    let refused = begun.elapsed();
    assert!(refused < DEADLINE, "{what}: held, not cut off");
    scene.assert_bounded(what);
    format!("{what}: cut off after {sent} bytes and {refused:?}")
}

#[test]
fn streams_over_the_limit_are_refused_and_the_others_stay() {
    let Some(scene) = Scene::new("streams_over_the_limit_are_refused_and_the_others_stay") else { return };
    raise_own_limit();
    serve_idle(&scene.pair.server, 9090);
    let idle = scene.pair.server.addr(9090).to_string();
    let mut raw = tunnel(&scene);
    assert_eq!(raw.ask(1, &open(1, &scene.application())), Answer::Accepted);
    let many: Vec<u8> = (2..=10_000).flat_map(|n| open(n, &idle)).collect();
    raw.send(&many).expect("the tunnel goes on");
    let (mut accepted, mut turned_away) = (Vec::new(), 0);
    while accepted.len() + turned_away < 9_999 {
        let frame = raw.read_frame().expect("the tunnel goes on");
        match frame.kind {
            ACCEPT => accepted.push(frame.stream),
            RESET => {
                assert_eq!(frame.reason(), REFUSED_STREAM);
                turned_away += 1;
            }
            // The greeting of the application.
            HELLO | DATA => {}
            other => panic!("{other}: {frame:?}"),
        }
    }
    println!("{} streams carried, {turned_away} refused", accepted.len());
    assert_eq!(accepted.len(), STREAMS - 1);
    raw.exchange(1, b"the first one still works");
    raw.send(&accepted.iter().flat_map(|n| reset(*n)).collect::<Vec<u8>>()).expect("the tunnel goes on");
    // A place is free once the agent has let go of the connection to the application; until then it is refused, and asked again.
    let mut next = 10_000;
    let answer = eventually(DEADLINE, "there is room again", || {
        next += 1;
        let answer = raw.ask(next, &open(next, &scene.application()));
        (answer != Answer::Reset(REFUSED_STREAM)).then_some(answer)
    });
    assert_eq!(answer, Answer::Accepted);
    raw.exchange(next, b"and a new one does");
    scene.assert_bounded("ten thousand streams");
    // Nobody is told of that, since nobody did wrong: of this one, who does.
    raw.send(&hello()).expect("the tunnel goes on");
    raw.expect_expelled("a second HELLO");
    scene.assert_contained();
}

#[test]
fn what_a_peer_may_do_too_often_harms_nobody() {
    let Some(scene) = Scene::new("what_a_peer_may_do_too_often_harms_nobody") else { return };
    let firehose = serve_firehose(&scene, 7070);
    let mut raw = tunnel(&scene);
    assert_eq!(raw.ask(1, &open(1, &scene.application())), Answer::Accepted);
    // Questions, whose answers are read.
    for _ in 0..100 {
        raw.send(&frame(0, PING, b"question").repeat(1_000)).expect("the tunnel goes on");
        for _ in 0..1_000 {
            let answer = raw.read_frame().expect("the tunnel goes on");
            assert_eq!((answer.kind, &answer.payload[..]), (9, &b"question"[..]));
        }
    }
    // More credit than there are numbers, also for a stream that is gone.
    assert_eq!(raw.ask(2, &open(2, &scene.application())), Answer::Accepted);
    let most = u32::MAX.to_be_bytes();
    let late = [frame(2, CREDIT, &most), frame(2, DATA, &[0; 100_000]), frame(2, FIN, &[])].concat();
    raw.send(&[reset(2), late.repeat(100), frame(1, CREDIT, &most).repeat(1_000)].concat())
        .expect("the tunnel goes on");
    raw.exchange(1, b"nothing has overflowed");
    // All the credit there is, and then not a byte is read.
    assert_eq!(raw.ask(3, &open(3, &firehose)), Answer::Accepted);
    raw.send(&frame(3, CREDIT, &most)).expect("the tunnel goes on");
    holds_for(Duration::from_secs(1), "what waits for it is bounded", || {
        scene.assert_bounded("credit without end");
        true
    });
    // The tunnel goes on once it reads.
    raw.send(&reset(3)).expect("the tunnel goes on");
    raw.exchange(1, b"as if nothing had been");
    raw.send(&hello()).expect("the tunnel goes on");
    raw.expect_expelled("a second HELLO");
    scene.assert_contained();
}

#[test]
fn streams_that_stall_slow_no_other_in_their_tunnel_down() {
    let Some(scene) = Scene::new("streams_that_stall_slow_no_other_in_their_tunnel_down") else { return };
    const STALLED: u32 = 60;
    let firehose = serve_firehose(&scene, 7070);
    let mut raw = tunnel(&scene);
    let (echo, bulk) = (scene.application(), STALLED + 2);
    assert_eq!(raw.ask(1, &open(1, &echo)), Answer::Accepted);
    let quiet = median_exchange(&mut raw, 1);
    let stalled: Vec<u8> = (2..bulk).flat_map(|n| open(n, &firehose)).collect();
    raw.send(&stalled).expect("the tunnel goes on");
    let mut received = 0;
    // Each sends what it has credit for, and not a byte more.
    while received < STALLED as usize * FIRST_CREDIT {
        let frame = raw.read_frame().expect("the tunnel goes on");
        received += if frame.kind == DATA { frame.payload.len() } else { 0 };
    }
    let beside = median_exchange(&mut raw, 1);
    assert_eq!(raw.ask(bulk, &open(bulk, &firehose)), Answer::Accepted);
    let (begun, mut taken) = (Instant::now(), 0);
    while taken < 64 << 20 {
        let Some(data) = raw.read_frame() else { panic!("the tunnel goes on") };
        assert_eq!((data.kind, data.stream), (DATA, bulk), "a stream without credit sends");
        taken += data.payload.len();
        let more = u32::try_from(data.payload.len()).expect("a frame is short");
        raw.send(&frame(bulk, CREDIT, &more.to_be_bytes())).expect("the tunnel goes on");
    }
    let rate = taken as f64 / begun.elapsed().as_secs_f64() / 1e6;
    println!("p50 {quiet:?} -> {beside:?} beside {STALLED} stalled streams, and {rate:.0} MB/s");
    assert!(beside < quiet * 8 + Duration::from_millis(5), "{quiet:?} -> {beside:?}");
    assert!(rate > 10.0, "{rate} MB/s");
    scene.assert_bounded("stalled streams");
    raw.send(&hello()).expect("the tunnel goes on");
    raw.0.expect_end("a second HELLO");
    scene.assert_contained();
}

fn median_exchange(raw: &mut Raw, stream: u32) -> Duration {
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let begun = Instant::now();
            raw.exchange(stream, b"ping");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}
