//! Bytes, ends and resets arrive as what they are.

use bytes::Bytes;

use super::*;

const HUNDRED_MB: usize = 100_000_000;

/// Sends 100 MB while taking in what comes back.
async fn transfer(tunnel: &Tunnel) {
    let (mut send, mut recv) = tunnel.open(App::Echo).await.split();
    let sending = async {
        let mut sent = Checksum::default();
        for part in 0..HUNDRED_MB / PIECE {
            let mut piece = pattern(part);
            sent.add(&piece);
            send.send(&mut piece).await.unwrap();
        }
        send.finish().unwrap();
        sent
    };
    let receiving = async {
        let mut received = Checksum::default();
        while let Some(data) = recv.recv().await {
            let data = data.unwrap();
            received.add(&data);
            recv.consumed(data.len());
        }
        received
    };
    let (sent, received) = tokio::join!(sending, receiving);
    assert_eq!(sent, received);
}

#[tokio::test]
async fn a_hundred_megabytes_go_both_ways_over_tcp() {
    soon(transfer(&Tunnel::over_tcp().await)).await;
}

#[tokio::test]
async fn a_hundred_megabytes_go_both_ways_over_a_narrow_pipe() {
    let (one, other) = tokio::io::duplex(1500);
    let tunnel = Tunnel::over(one, other, &Config::default(), &Config::default()).await;
    soon(transfer(&tunnel)).await;
}

#[tokio::test]
async fn the_client_may_end_first() {
    let tunnel = Tunnel::in_memory().await;
    let mut stream = tunnel.open(App::Sum).await;
    let mut expected = Checksum::default();
    for part in 0..50 {
        let mut piece = pattern(part);
        expected.add(&piece);
        stream.send.send(&mut piece).await.unwrap();
    }
    stream.send.finish().unwrap();
    stream.send.finish().unwrap();
    let answer = soon(read_all(&mut stream)).await.unwrap();
    assert_eq!(answer, [expected.sum.to_be_bytes(), expected.length.to_be_bytes()].concat());
}

#[tokio::test]
async fn the_server_may_end_first() {
    let tunnel = Tunnel::in_memory().await;
    let mut stream = tunnel.open(App::ExpectReset).await;
    assert_eq!(soon(stream.recv.recv()).await, None);
    assert_eq!(soon(stream.recv.recv()).await, None);
    stream.send.send(&mut Bytes::from_static(b"still open")).await.unwrap();
    stream.send.reset(ResetReason::Connect);
    tunnel.assert_works().await;
}

#[tokio::test]
async fn the_servers_reset_reaches_a_client_that_reads_writes_or_waits() {
    let reset = StreamError::Reset(ResetReason::Connect);
    let tunnel = Tunnel::in_memory().await;

    let provoke = async || {
        let mut stream = tunnel.open(App::Reset).await;
        stream.send.send(&mut Bytes::from_static(b"!")).await.unwrap();
        stream
    };
    let mut reading = provoke().await;
    assert_eq!(soon(reading.recv.recv()).await, Some(Err(reset.clone())));
    assert_eq!(soon(reading.recv.recv()).await, Some(Err(reset.clone())));

    let mut writing = provoke().await;
    assert_eq!(soon(flood(&mut writing)).await, Err(reset.clone()));
    assert_eq!(writing.send.finish(), Err(reset.clone()));

    let mut waiting = provoke().await;
    assert_eq!(soon(waiting.send.broken()).await, reset);

    let mut finished = provoke().await;
    finished.send.finish().unwrap();
    assert_eq!(soon(finished.send.broken()).await, reset);
    tunnel.assert_works().await;
}

#[tokio::test(start_paused = true)]
async fn the_clients_reset_and_its_drop_reach_the_server() {
    let (seen, mut resets) = tokio::sync::mpsc::unbounded_channel();
    let (one, other) = tokio::io::duplex(1 << 16);
    let server = async {
        let handler = |incoming: Incoming| {
            let seen = seen.clone();
            async move {
                let mut stream = incoming.respond.accept(None).unwrap();
                let first = stream.recv.recv().await.unwrap().unwrap();
                seen.send((first, stream.recv.recv().await)).unwrap();
            }
        };
        serve(other, &Config::default(), std::future::pending(), handler).await
    };
    let test = async {
        let (client, connection) = handshake(one, &Config::default()).await.unwrap();
        let test = async {
            for reason in [ResetReason::Connect, ResetReason::Other(0x77)] {
                let mut stream = client.open(&to(App::Echo)).await.unwrap().stream;
                stream.send.send(&mut Bytes::from_static(b"x")).await.unwrap();
                // A reset overtakes what is still in the send buffer; the clock stands still while that moves.
                tokio::time::sleep(Duration::from_millis(1)).await;
                stream.send.reset(reason);
                let (first, end) = resets.recv().await.unwrap();
                assert_eq!((&first[..], end), (&b"x"[..], Some(Err(StreamError::Reset(reason)))));
            }
            for only_one_half in [true, false] {
                let (mut send, recv) = client.open(&to(App::Echo)).await.unwrap().stream.split();
                send.send(&mut Bytes::from_static(b"y")).await.unwrap();
                // As above.
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(send);
                let kept = only_one_half.then_some(recv);
                let (_, end) = resets.recv().await.unwrap();
                assert_eq!(end, Some(Err(StreamError::Reset(ResetReason::Cancel))));
                drop(kept);
            }
        };
        tokio::select! { () = test => {}, ended = connection => panic!("{ended:?}") }
    };
    soon(async {
        tokio::select! { () = test => {}, ended = server => panic!("{ended:?}") }
    })
    .await;
}

#[tokio::test]
async fn two_hundred_streams_run_at_once() {
    let tunnel = Tunnel::over_tcp().await;
    let mut streams = JoinSet::new();
    for n in 0..200 {
        let client = tunnel.client.clone();
        streams.spawn(async move {
            let mut stream = client.open(&to(App::Echo)).await.unwrap().stream;
            let pieces: Vec<Bytes> = (0..8).map(|part| pattern(n * 1000 + part)).collect();
            for piece in &pieces {
                stream.send.send(&mut piece.clone()).await.unwrap();
            }
            stream.send.finish().unwrap();
            assert_eq!(read_all(&mut stream).await.unwrap(), pieces.concat());
        });
    }
    soon(streams.join_all()).await;
    assert_eq!(tunnel.client.live(), 0);
}

#[tokio::test]
async fn nothing_is_lost_when_waiting_is_given_up() {
    let tunnel = Tunnel::in_memory().await;
    let (mut send, mut recv) = tunnel.open(App::Echo).await.split();
    let sending = async {
        for part in 0..200 {
            let mut piece = pattern(part);
            while !piece.is_empty() {
                tokio::select! {
                    biased;
                    result = send.send(&mut piece) => result.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        send.finish().unwrap();
    };
    let receiving = async {
        let mut received = Checksum::default();
        loop {
            tokio::select! {
                biased;
                data = recv.recv() => match data {
                    Some(data) => { let data = data.unwrap(); received.add(&data); recv.consumed(data.len()); }
                    None => return received,
                },
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let ((), received) = soon(async { tokio::join!(sending, receiving) }).await;
    let mut expected = Checksum::default();
    (0..200).for_each(|part| expected.add(&pattern(part)));
    assert_eq!(received, expected);
}
