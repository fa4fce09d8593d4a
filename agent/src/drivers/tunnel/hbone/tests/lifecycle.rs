//! Opening, refusing, filling, draining, breaking.

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::drivers::tunnel::{Cause, NotProcessed, OpenError};

#[tokio::test]
async fn a_refusal_comes_with_its_reason() {
    let tunnel = Tunnel::in_memory().await;
    let error = tunnel.client.open(&to(App::Deny)).await.unwrap_err();
    assert_eq!(error, OpenError::Refused(Refusal { status: 401, cause: Cause::Denied }));
    assert!(!error.is_safe_to_retry());
    assert_eq!(tunnel.client.live(), 0);
    let opened = tunnel.client.open(&to(App::Stall)).await.unwrap();
    assert_eq!(&*opened.baggage.read().service_name, "server");
    assert_eq!(tunnel.client.live(), 1);
}

#[tokio::test]
async fn a_full_tunnel_takes_no_more_until_a_stream_ends() {
    for (client_limit, server_limit) in [(3, 200), (200, 3)] {
        let client = Config { max_streams: client_limit, ..Config::default() };
        let server = Config { max_streams: server_limit, ..Config::default() };
        let tunnel = Tunnel::with(&client, &server).await;
        tunnel.assert_works().await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            assert!(tunnel.client.can_open());
            streams.push(tunnel.open(App::Stall).await);
        }
        assert!(!tunnel.client.can_open());
        let error = tunnel.client.open(&to(App::Echo)).await.unwrap_err();
        assert_eq!(error, OpenError::NotProcessed(NotProcessed::Full));
        streams.pop();
        assert!(tunnel.client.can_open());
        tunnel.assert_works().await;
    }
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_open_and_takes_nothing_new() {
    let mut tunnel = Tunnel::in_memory().await;
    let mut stream = tunnel.open(App::Echo).await;
    tunnel.shut_down();
    until("the client knows", || !tunnel.client.can_open()).await;
    let error = tunnel.client.open(&to(App::Echo)).await.unwrap_err();
    assert_eq!(error, OpenError::NotProcessed(NotProcessed::GoingAway));
    assert!(error.is_safe_to_retry());

    for part in 0..100 {
        stream.send.send(&mut pattern(part)).await.unwrap();
        let mut left = PIECE;
        while left > 0 {
            let data = soon(stream.recv.recv()).await.unwrap().unwrap();
            left -= data.len();
            stream.recv.consumed(data.len());
        }
    }
    stream.send.finish().unwrap();
    assert_eq!(soon(stream.recv.recv()).await, None);
    drop(stream);
    for _ in 0..2 {
        assert_eq!(tunnel.next_end().await.1, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_waits_for_its_handlers_after_a_shutdown() {
    let mut tunnel = Tunnel::in_memory().await;
    let stream = tunnel.open(App::Stall).await;
    tunnel.shut_down();
    let early = timeout(Duration::from_millis(200), tunnel.ends.join_next()).await;
    assert!(early.is_err(), "a stream is still open: {early:?}");
    drop(stream);
    for _ in 0..2 {
        assert_eq!(tunnel.next_end().await.1, Ok(()));
    }
}

#[tokio::test]
async fn a_closed_client_ends_when_its_streams_have() {
    let mut tunnel = Tunnel::in_memory().await;
    let clone = tunnel.client.clone();
    let mut stream = tunnel.open(App::Echo).await;
    tunnel.client.close();
    assert!(!clone.can_open());
    assert!(clone.open(&to(App::Echo)).await.unwrap_err().is_safe_to_retry());
    stream.send.send(&mut Bytes::from_static(b"last words")).await.unwrap();
    stream.send.finish().unwrap();
    assert_eq!(soon(read_all(&mut stream)).await.unwrap(), b"last words");
    assert!(!clone.is_closed());
    drop(stream);
    assert_eq!(soon(clone.closed()).await, TunnelError::Closed);
    for _ in 0..2 {
        assert_eq!(tunnel.next_end().await.1, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_nobody_holds_closes_by_itself() {
    let Tunnel { client, mut ends, shutdown } = Tunnel::in_memory().await;
    let stream = client.open(&to(App::Stall)).await.unwrap().stream;
    drop(client);
    assert!(timeout(Duration::from_millis(100), ends.join_next()).await.is_err(), "a stream is still open");
    drop(stream);
    for _ in 0..2 {
        assert_eq!(soon(ends.join_next()).await.unwrap().unwrap().1, Ok(()));
    }
    drop(shutdown);
}

#[tokio::test]
async fn a_broken_tunnel_is_told_from_a_reset() {
    let mut tunnel = Tunnel::in_memory().await;
    let mut stream = tunnel.open(App::Stall).await;
    let opening = tunnel.client.clone();
    let (broken, interrupted, why, ()) = soon(async {
        let request = to(App::Silent);
        tokio::join!(stream.recv.recv(), opening.open(&request), opening.closed(), async {
            until("the request is under way", || opening.live() == 2).await;
            // The server's task and its end of the pipe go.
            tunnel.ends.abort_all();
        })
    })
    .await;
    assert!(matches!(broken, Some(Err(StreamError::Tunnel(_)))), "{broken:?}");
    assert!(matches!(interrupted, Err(OpenError::Interrupted(_))), "{interrupted:?}");
    assert!(matches!(stream.send.broken().await, StreamError::Tunnel(_)));
    assert_eq!(why, TunnelError::Closed, "the connection's future was dropped");
    assert!(tunnel.client.is_closed() && !tunnel.client.can_open());
    let error = tunnel.client.open(&to(App::Echo)).await.unwrap_err();
    assert_eq!(error, OpenError::NotProcessed(NotProcessed::Ended(TunnelError::Closed)));
}

#[tokio::test]
async fn a_server_ends_with_its_handlers_when_the_client_vanishes() {
    let (one, other) = tokio::io::duplex(1 << 16);
    let (client, connection) = handshake(one, &Config::default()).await.unwrap();
    let vanishing = async {
        let requests = [to(App::Stall), to(App::Silent)];
        let holding = async {
            let opened = client.open(&requests[0]).await.unwrap();
            let waiting = client.open(&requests[1]).await;
            drop((opened, waiting));
        };
        tokio::select! {
            () = holding => unreachable!("nobody answers"),
            ended = connection => unreachable!("{ended:?}"),
            () = until("both are under way", || client.live() == 2) => {}
        }
    };
    let config = Config::default();
    let serving = serve(other, &config, std::future::pending(), application);
    let ((), _) = soon(async { tokio::join!(vanishing, serving) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_is_cancelled() {
    let tunnel = Tunnel::in_memory().await;
    let request = to(App::Silent);
    let given_up = timeout(Duration::from_millis(50), tunnel.client.open(&request)).await;
    assert!(given_up.is_err());
    assert_eq!(tunnel.client.live(), 0);
    tunnel.assert_works().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_noticed_by_both_ends() {
    // Ends of two different pipes whose other ends are held by nobody who reads.
    let (client_io, mut client_peer) = tokio::io::duplex(1 << 16);
    let (server_io, mut server_peer) = tokio::io::duplex(1 << 16);
    let begun = Instant::now();
    let (client, connection) = handshake(client_io, &Config::default()).await.unwrap();
    let config = Config::default();
    let serving = serve(server_io, &config, std::future::pending(), application);
    let silence = async {
        raw::Raw::new(&mut client_peer).send_settings(&[]).await;
        let mut server_peer = raw::Raw::new(&mut server_peer);
        server_peer.send_preface().await;
        std::future::pending::<()>().await;
    };
    let ends = async { tokio::join!(serving, connection) };
    let (server, connection) = tokio::select! { ends = ends => ends, () = silence => unreachable!() };
    let silent = TunnelError::Silent(Duration::from_secs(20));
    assert_eq!(server, Err(silent.clone()));
    assert_eq!(connection, Err(silent.clone()));
    assert_eq!(client.closed().await, silent);
    let waited = begun.elapsed();
    assert!((30..40).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_stays() {
    let mut tunnel = Tunnel::in_memory().await;
    let stream = tunnel.open(App::Stall).await;
    assert!(timeout(Duration::from_secs(24 * 3600), tunnel.ends.join_next()).await.is_err());
    drop(stream);
    tunnel.assert_works().await;
}
