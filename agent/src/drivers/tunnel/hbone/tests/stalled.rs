//! Readers that stall hold up nobody else, and make nobody hold more than the windows say. The clock of these tests
//! stands still while anything moves: a timeout means that nothing moves any more.

use std::time::Instant;

use bytes::Bytes;

use super::*;

const STALLED: usize = 60;

/// The most that one stalled stream may make both ends hold: its window, and its send buffer.
fn bound(config: &Config) -> usize {
    config.stream_window as usize + config.send_buffer
}

/// Sends until nothing more is taken; how much that was.
async fn fill(stream: &mut Stream) -> usize {
    let mut taken = 0;
    loop {
        let mut data = Bytes::from_static(&[7; 32 << 10]);
        let size = data.len();
        let quiet = timeout(Duration::from_millis(300), stream.send.send(&mut data)).await;
        taken += size - data.len();
        match quiet {
            Ok(result) => result.unwrap(),
            Err(_) => return taken,
        }
    }
}

/// Moves 32 MiB each way through streams of their own.
async fn assert_full_speed(tunnel: &Tunnel) -> Duration {
    let begun = Instant::now();
    let up = async {
        let mut stream = tunnel.open(App::Sum).await;
        for part in 0..SOURCE / PIECE {
            stream.send.send(&mut pattern(part)).await.unwrap();
        }
        stream.send.finish().unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap().len(), 16);
    };
    let down = async {
        let mut stream = tunnel.open(App::Source).await;
        let mut received = Checksum::default();
        received.read(&mut stream).await.unwrap();
        assert_eq!(received.length, SOURCE as u64);
    };
    soon(async { tokio::join!(up, down) }).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn sixty_stalled_servers_hold_up_nobody() {
    let tunnel = Tunnel::in_memory().await;
    let alone = assert_full_speed(&tunnel).await;

    let mut filling = JoinSet::new();
    for _ in 0..STALLED {
        let mut stream = tunnel.open(App::Stall).await;
        filling.spawn(async move { (fill(&mut stream).await, stream) });
    }
    let filled: Vec<(usize, Stream)> = soon(filling.join_all()).await;
    let config = Config::default();
    for (taken, _) in &filled {
        assert!(*taken >= config.stream_window as usize, "the windows were filled: {taken}");
        assert!(*taken <= bound(&config), "one stream made us hold {taken} bytes");
    }
    let beside = assert_full_speed(&tunnel).await;
    assert!(beside < alone * 5 + Duration::from_secs(1), "{alone:?} alone, {beside:?} beside stalled streams");
    assert!(tunnel.client.can_open());
}

#[tokio::test(start_paused = true)]
async fn sixty_stalled_clients_hold_up_nobody() {
    let tunnel = Tunnel::in_memory().await;
    let alone = assert_full_speed(&tunnel).await;

    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(tunnel.open(App::Flood).await);
    }
    let beside = assert_full_speed(&tunnel).await;
    assert!(beside < alone * 5 + Duration::from_secs(1), "{alone:?} alone, {beside:?} beside stalled streams");

    // What the stalled clients were sent meanwhile is a stream window each, not more.
    let config = Config::default();
    for stream in &mut stalled {
        let mut held = 0;
        while let Ok(data) = timeout(Duration::from_millis(50), stream.recv.recv()).await {
            held += data.unwrap().unwrap().len();
        }
        assert_eq!(held, config.stream_window as usize);
    }
}

#[tokio::test]
async fn a_stalled_stream_goes_on_where_it_was() {
    let tunnel = Tunnel::in_memory().await;
    let mut stream = tunnel.open(App::Source).await;
    assert_full_speed(&tunnel).await;
    let mut expected = Checksum::default();
    (0..SOURCE / PIECE).for_each(|part| expected.add(&pattern(part)));
    let mut received = Checksum::default();
    soon(received.read(&mut stream)).await.unwrap();
    assert_eq!(received, expected);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_connection_window_is_exhausted_takes_no_new_streams() {
    // As with ztunnel, four of whose stream windows fill its connection window; here one does: 65,535 bytes.
    let (one, other) = tokio::io::duplex(1 << 20);
    let mut server = raw::Raw::new(other);
    let (client, connection) = handshake(one, &Config::default()).await.unwrap();
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    server.send_settings(&[(0x4, 4 << 20)]).await;
    let opening = async { client.open(&to(App::Stall)).await.unwrap().stream };
    let answering = server.answer_next_request();
    let (mut stream, id) = soon(async { tokio::join!(opening, answering) }).await;
    assert!(client.can_open());

    let taken = fill(&mut stream).await;
    assert!(taken >= 65_535, "{taken}");
    until("the tunnel counts as full", || !client.can_open()).await;
    assert!(client.open(&to(App::Echo)).await.unwrap_err().is_safe_to_retry());

    server.send_window_update(0, 1 << 20).await;
    until("the tunnel has room again", || client.can_open()).await;
    assert!(id > 0);
}

/// Small pieces that wait unread: one by one in h2 they would break the tunnel, taken in they do not.
#[tokio::test(start_paused = true)]
async fn many_small_pieces_may_wait() {
    let config = Config { small_frame_budget: 8 << 20, ..Config::default() };
    let (one, other) = tokio::io::duplex(1 << 16);
    let (release, released) = tokio::sync::watch::channel(false);
    let handler = move |incoming: Incoming| {
        let mut released = released.clone();
        async move {
            let mut stream = incoming.respond.accept(None).unwrap();
            let slow_write = async move { released.wait_for(|done| *done).await.map(drop) };
            stream.recv.recv_during(slow_write).await.unwrap().unwrap();
            let all = read_all(&mut stream).await.unwrap();
            assert!(all.iter().enumerate().all(|(n, byte)| *byte == n as u8));
            stream.send.send(&mut all.len().to_be_bytes().to_vec().into()).await.unwrap();
            stream.send.finish().unwrap();
        }
    };
    let server_config = config.clone();
    let mut ends = JoinSet::new();
    ends.spawn(async move { serve(other, &server_config, std::future::pending(), handler).await });
    let (client, connection) = handshake(one, &config).await.unwrap();
    ends.spawn(connection);
    let mut stream = client.open(&to(App::Echo)).await.unwrap().stream;
    let pieces = 100_000_usize;
    for n in 0..pieces {
        stream.send.send(&mut vec![n as u8].into()).await.unwrap();
        if n % 1000 == 0 {
            // The clock stands still while anything moves.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stream.send.finish().unwrap();
    // As above: all of it has come before the application reads.
    tokio::time::sleep(Duration::from_millis(1)).await;
    release.send(true).unwrap();
    assert_eq!(soon(read_all(&mut stream)).await.unwrap(), pieces.to_be_bytes());
}
