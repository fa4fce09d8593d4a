//! Whole tunnels between two ends on one thread, with applications behind them, over loopback.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::super::{MuxClient, MuxIncoming, MuxStream, begin, serve};
use super::plain::Plain;
use crate::drivers::tunnel::{
    Cause, Config, ConnectRequest, FirstBytes, NotProcessed, OpenError, Refusal, ResetReason, StreamError, TunnelError,
};
use crate::model::authority::Authority;
use crate::model::baggage::BaggageText;
use crate::runtime::budget::Budget;
use crate::runtime::traffic::{Sender, Traffic};

pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Runs the test on one thread, as the data plane does.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(LONG, test).await.expect("the test hangs") });
}

pub(super) fn to(port: u16) -> ConnectRequest {
    let mut request = ConnectRequest::to(format!("10.0.0.1:{port}").parse::<Authority>().unwrap());
    request.baggage = BaggageText::received("service.name=client");
    request
}

/// Carries bytes between a stream and a socket until both directions have ended.
pub(super) async fn relay(
    stream: MuxStream,
    socket: TcpStream,
    sender: Sender,
) -> Result<Rc<Traffic>, super::super::RelayError> {
    let (socket, traffic) = (Rc::new(socket), Rc::new(Traffic::default()));
    stream.attach(&socket, &traffic, sender.other());
    tokio::try_join!(stream.send_all(&socket, &traffic, sender), stream.receive_all(&socket))?;
    Ok(traffic)
}

/// A server whose applications listen on loopback: the port of a request says which. 1 denies, 2 never answers, 3 has no memory to spare.
pub(super) struct Server {
    stop: Arc<Notify>,
    live: Rc<Cell<usize>>,
    result: tokio::sync::oneshot::Receiver<Result<(), TunnelError>>,
}

pub(super) async fn tunnel(config: &Config) -> (MuxClient, Server) {
    let (near, far) = sockets().await;
    let (stop, live) = (Arc::new(Notify::new()), Rc::new(Cell::new(0)));
    let (tell, result) = tokio::sync::oneshot::channel();
    let server = Server { stop: Arc::clone(&stop), live: Rc::clone(&live), result };
    let (client, connection) = begin(Plain::new(near), config);
    let config = config.clone();
    spawn_local(async move {
        let handle = |incoming| handle(incoming, Rc::clone(&live));
        let _gone = tell.send(serve(Plain::new(far), &config, stop.notified(), handle).await);
    });
    spawn_local(async move { drop(connection.await) });
    (client, server)
}

async fn handle(MuxIncoming { request, mut respond }: MuxIncoming, live: Rc<Cell<usize>>) {
    let request = request.unwrap();
    assert!(!request.baggage.read().is_empty());
    let Authority::Address(address) = request.authority else { panic!("{request:?}") };
    live.set(live.get() + 1);
    match address.port() {
        1 => respond.reject(Refusal::DENIED),
        2 => respond.cancelled().await,
        3 => {
            respond.charge(&Budget::new("memory", 1000).share(0));
            respond.cancelled().await;
        }
        port => match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => {
                if let Ok(stream) = respond.accept(Some(&BaggageText::received("service.name=server"))) {
                    let _torn = relay(stream, socket, Sender::Server).await;
                }
            }
            Err(_) => respond.reject(Refusal::unavailable(Cause::ConnectionRefused)),
        },
    }
    live.set(live.get() - 1);
}

/// An application that does `work` with each connection.
pub(super) async fn application<F: Future<Output = ()> + 'static>(work: impl Fn(TcpStream) -> F + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            spawn_local(work(socket));
        }
    });
    port
}

pub(super) async fn echo(mut socket: TcpStream) {
    let (mut read, mut write) = socket.split();
    // A connection that breaks off ends the copy.
    let _torn = tokio::io::copy(&mut read, &mut write).await;
    let _torn = write.shutdown().await;
}

/// A client application's end of a connection through the tunnel.
async fn connect(client: &MuxClient, port: u16) -> TcpStream {
    let (stream, baggage) = client.open(&to(port), &FirstBytes::none()).await.unwrap();
    assert!(!baggage.read().is_empty());
    let (near, far) = sockets().await;
    spawn_local(async move { drop(relay(stream, far, Sender::Client).await) });
    near
}

pub(super) fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|number| ((number + seed) % 253) as u8).collect()
}

#[test]
fn bytes_and_half_closes_travel() {
    run(async {
        let (client, server) = tunnel(&Config::default()).await;
        let port = application(echo).await;
        for length in [0, 1, 1000, 16_376, 16_377, 3_000_000] {
            let mut socket = connect(&client, port).await;
            let text = pattern(length, 3);
            let (mut read, mut write) = socket.split();
            let mut back = Vec::new();
            let (sent, received) = tokio::join!(
                async {
                    write.write_all(&text).await?;
                    write.shutdown().await
                },
                read.read_to_end(&mut back)
            );
            sent.unwrap();
            received.unwrap();
            assert!(back == text, "{length}");
        }
        until("all have ended", || client.live() == 0 && server.live.get() == 0).await;
    });
}

#[test]
fn many_streams_do_not_mix() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let port = application(echo).await;
        let streams = (0..200).map(|seed| {
            let client = client.clone();
            async move {
                let mut socket = connect(&client, port).await;
                for round in 0..20 {
                    let text = pattern(1 + (seed * 37 + round * 911) % 40_000, seed);
                    let mut back = vec![0; text.len()];
                    let (mut read, mut write) = socket.split();
                    let (sent, got) = tokio::join!(write.write_all(&text), read.read_exact(&mut back));
                    sent.unwrap();
                    got.unwrap();
                    assert!(back == text);
                }
            }
        });
        futures_util::future::join_all(streams).await;
    });
}

#[test]
fn refusals_and_resets_arrive_as_what_they_are() {
    run(async {
        let (client, server) = tunnel(&Config::default()).await;
        assert_eq!(client.open(&to(1), &FirstBytes::none()).await.unwrap_err(), OpenError::Refused(Refusal::DENIED));
        let nobody = client.open(&to(9), &FirstBytes::none()).await.unwrap_err();
        assert_eq!(nobody, OpenError::Refused(Refusal::unavailable(Cause::ConnectionRefused)));
        // A request that nobody waits for any more is taken back.
        assert!(timeout(Duration::from_millis(50), client.open(&to(2), &FirstBytes::none())).await.is_err());
        until("the server has noticed", || server.live.get() == 0 && client.live() == 0).await;

        let rude = application(async |socket: TcpStream| {
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        });
        let port = rude.await;
        let (stream, _) = client.open(&to(port), &FirstBytes::none()).await.unwrap();
        let (_near, far) = sockets().await;
        let torn = relay(stream, far, Sender::Client).await.unwrap_err();
        let super::super::RelayError::Stream(torn) = torn else { panic!("{torn}") };
        assert!(matches!(torn, StreamError::Reset(ResetReason::Connect | ResetReason::Cancel)), "{torn}");
    });
}

#[test]
fn sixty_stalled_readers_hold_up_nobody() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let flood = application(async |mut socket: TcpStream| {
            let text = vec![7; 64 << 10];
            while socket.write_all(&text).await.is_ok() {}
        })
        .await;
        let port = application(echo).await;
        let mut stalled = Vec::new();
        for _ in 0..60 {
            // They read nothing, ever.
            stalled.push(connect(&client, flood).await);
        }
        let text = pattern(4 << 20, 1);
        for _ in 0..3 {
            let mut socket = connect(&client, port).await;
            let mut back = vec![0; text.len()];
            let (mut read, mut write) = socket.split();
            let (sent, got) = tokio::join!(write.write_all(&text), read.read_exact(&mut back));
            sent.unwrap();
            got.unwrap();
            assert!(back == text);
        }
        drop(stalled);
        until("they are gone", || client.live() == 0).await;
    });
}

#[test]
fn one_that_does_not_read_is_held_to_its_share_of_memory() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let flood = application(async |mut socket: TcpStream| {
            let text = vec![7; 64 << 10];
            while socket.write_all(&text).await.is_ok() {}
        })
        .await;
        let (stream, _) = client.open(&to(flood), &FirstBytes::none()).await.unwrap();
        let budget = Budget::new("bytes", 200_000);
        stream.charge(&budget.share(0));
        let (near, far) = sockets().await;
        let torn = relay(stream, far, Sender::Client).await.unwrap_err();
        assert!(torn.to_string().contains("does not read"), "{torn}");
        assert_eq!(budget.used(), 0);
        drop(near);
    });
}

#[test]
fn a_reset_is_noticed_while_there_is_no_leave_to_send() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        // Ends its own half, reads nothing, and stays.
        let deaf = application(async |mut socket: TcpStream| {
            socket.shutdown().await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let (stream, _) = client.open(&to(deaf), &FirstBytes::none()).await.unwrap();
        let (near, far) = sockets().await;
        let relayed = spawn_local(relay(stream, far, Sender::Client));
        let block = vec![7; 64 << 10];
        while timeout(Duration::from_millis(300), near.writable()).await.is_ok() {
            // A socket that is full says so at the next look.
            let _full = near.try_write(&block);
        }
        socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO)).unwrap();
        drop(near);
        let torn = relayed.await.unwrap().unwrap_err();
        assert!(matches!(torn, super::super::RelayError::Socket(_)), "{torn}");
    });
}

#[test]
fn a_server_that_leaves_finishes_what_it_has() {
    run(async {
        let (client, server) = tunnel(&Config::default()).await;
        let port = application(echo).await;
        let mut socket = connect(&client, port).await;
        server.stop.notify_one();
        until("the client knows", || !client.can_open()).await;
        let late = client.open(&to(port), &FirstBytes::none()).await.unwrap_err();
        assert!(matches!(late, OpenError::NotProcessed(NotProcessed::GoingAway)), "{late}");
        socket.write_all(b"still here").await.unwrap();
        let mut back = [0; 10];
        socket.read_exact(&mut back).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut back).await.unwrap(), 0);
        assert_eq!(server.result.await.unwrap(), Ok(()));
        assert_eq!(client.closed().await, TunnelError::Closed);
    });
}

#[test]
fn a_client_that_closes_does_so_with_its_last_stream() {
    run(async {
        let (client, server) = tunnel(&Config::default()).await;
        let port = application(echo).await;
        let mut socket = connect(&client, port).await;
        client.close();
        assert!(!client.can_open() && !client.is_closed());
        socket.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut [0; 4]).await.unwrap(), 0);
        assert_eq!(client.closed().await, TunnelError::Closed);
        assert_eq!(server.result.await.unwrap(), Ok(()));
    });
}

#[test]
fn a_peer_that_gives_up_request_after_request_is_sent_away() {
    run(async {
        let config = Config { abandoned_streams: 50, ..Config::default() };
        let (client, server) = tunnel(&config).await;
        for _ in 0..200 {
            // Dropped before the answer.
            let _given_up = timeout(Duration::from_millis(1), client.open(&to(2), &FirstBytes::none())).await;
        }
        let error = server.result.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("abandoned"), "{error}");
    });
}

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("waited in vain until {what}");
}
