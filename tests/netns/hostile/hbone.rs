//! Peers that speak HBONE and abuse it.

use std::time::Instant;

use super::http2::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, Raw, WINDOW_UPDATE, block, connect, frame,
};
use super::intruder::Protocol;
use super::scene::Scene;
use super::usage::Usage;

fn tunnel(scene: &Scene) -> Raw {
    Raw::begin(scene.member(Protocol::Hbone)).expect("the preface is taken")
}

#[test]
fn a_tunnel_leads_nowhere_but_to_its_own_pod() {
    let Some(mut scene) = Scene::new("a_tunnel_leads_nowhere_but_to_its_own_pod") else { return };
    let neighbour = scene.pair.b.pod("neighbour").start();
    scene.pair.mesh.wait_enrolled(&[&neighbour]);
    scene.before = Usage::of(&scene.pair.agent_b);
    let bothered = neighbour.serve_echo(8080);
    let mut raw = tunnel(&scene);
    let mut stream = 1;
    for authority in [neighbour.addr(8080).to_string()].into_iter().chain(scene.forbidden()) {
        let answer = raw.ask(stream, &connect(stream, &authority));
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
        raw.ask(stream, &connect(stream, &application)).or_else(|| tunnel(&scene).ask(1, &connect(1, &application)));
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
        let mut raw = tunnel(&scene);
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
    flood(
        "a window that overflows",
        &[request(1), frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2)].concat(),
    );
    // To a stream that was never opened.
    flood("data for nobody", &frame(DATA, 0, 7, &[0; 16_000]).repeat(100));
    // PINGs are answered, as long as somebody reads the answers.
    let mut raw = tunnel(&scene);
    let pings = frame(PING, 0, 0, b"question").repeat(1_000);
    let begun = Instant::now();
    let _ = (0..200).try_for_each(|_| raw.send(&pings));
    drop(raw);
    println!("PING: given up after {:?}", begun.elapsed());
    scene.assert_contained();
    println!("all is over after {:?}", begun.elapsed());
}
