//! What an application says before its connection is made.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::tunnels::{LONG, application, echo, pattern, relay, run, sockets, to, tunnel, until};
use crate::drivers::tunnel::mux::MuxClient;
use crate::drivers::tunnel::mux::machine::EARLY;
use crate::drivers::tunnel::{Config, FirstBytes, OpenError, Refusal, ResetReason};
use crate::runtime::traffic::Sender;

/// What is asked for while the client's application has already said this much.
const SAID: usize = 40_000;

/// Something that goes along is waited for as long as a test may take; that nothing does is believed after this time.
const NOTHING: Duration = Duration::from_millis(20);

/// Whether anything was sent, within `patience`, with a request that is never answered.
async fn goes_along(client: &MuxClient, socket: &TcpStream, patience: Duration) -> bool {
    let first = FirstBytes::of(socket);
    let request = to(2);
    let under_way = async {
        tokio::select! {
            answer = client.open(&request, &first) => panic!("{answer:?}"),
            () = until("it goes along", || first.are_under_way()) => {}
        }
    };
    timeout(patience, under_way).await.is_ok()
}

#[test]
fn it_goes_along_with_the_request_and_arrives_once() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let port = application(echo).await;
        let text = pattern(SAID, 3);
        for said_before in [0, 1, 5000, SAID] {
            let (mut near, far) = sockets().await;
            near.write_all(&text[..said_before]).await.unwrap();
            let patience = if said_before > 0 { LONG } else { NOTHING };
            assert_eq!(goes_along(&client, &far, patience).await, said_before > 0, "{said_before}");
            let first = FirstBytes::of(&far);
            let (stream, _) = client.open(&to(port), &first).await.unwrap();
            assert!(!first.are_under_way(), "it was answered");
            let relayed = spawn_local(relay(stream, far, Sender::Client));
            near.write_all(&text[said_before..]).await.unwrap();
            near.shutdown().await.unwrap();
            let mut back = Vec::new();
            near.read_to_end(&mut back).await.unwrap();
            assert!(back == text, "{said_before}: {} bytes came back", back.len());
            let traffic = relayed.await.unwrap().unwrap();
            assert_eq!(traffic.of(Sender::Client).get(), SAID as u64);
        }
    });
}

#[test]
fn what_is_said_while_the_answer_is_awaited_goes_along_too() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let (mut near, far) = sockets().await;
        let saying = spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            near.write_all(b"hello").await.unwrap();
            near
        });
        assert!(goes_along(&client, &far, LONG).await);
        drop(saying);
    });
}

#[test]
fn more_goes_along_up_to_as_much_as_may() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let port = application(echo).await;
        let text = pattern(SAID, 3);
        let (mut near, far) = sockets().await;
        {
            let first = FirstBytes::of(&far);
            let gone_along = || first.to_be_sent(usize::MAX).map(|(_, sent)| sent);
            let request = to(2);
            let saying = async {
                for part in [0..1000, 1000..1001, 1001..SAID] {
                    let all = part.end.min(EARLY);
                    near.write_all(&text[part]).await.unwrap();
                    until("it goes along", || gone_along() == Some(all)).await;
                }
            };
            tokio::select! {
                answer = client.open(&request, &first) => panic!("{answer:?}"),
                () = saying => {}
            }
        }
        let (stream, _) = client.open(&to(port), &FirstBytes::of(&far)).await.unwrap();
        let relayed = spawn_local(relay(stream, far, Sender::Client));
        near.shutdown().await.unwrap();
        let mut back = Vec::new();
        near.read_to_end(&mut back).await.unwrap();
        assert!(back == text, "{} bytes came back", back.len());
        assert_eq!(relayed.await.unwrap().unwrap().of(Sender::Client).get(), SAID as u64);
    });
}

#[test]
fn an_end_that_follows_waits_for_the_answer() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let port = application(echo).await;
        let (mut near, far) = sockets().await;
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        assert!(goes_along(&client, &far, LONG).await);
        let (stream, _) = client.open(&to(port), &FirstBytes::of(&far)).await.unwrap();
        let relayed = spawn_local(relay(stream, far, Sender::Client));
        let mut back = String::new();
        near.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "hello");
        relayed.await.unwrap().unwrap();
    });
}

#[test]
fn a_refusal_leaves_it_where_it_was() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let (mut near, mut far) = sockets().await;
        near.write_all(b"hello").await.unwrap();
        {
            let first = FirstBytes::of(&far);
            assert_eq!(client.open(&to(1), &first).await.unwrap_err(), OpenError::Refused(Refusal::DENIED));
            assert!(!first.are_under_way(), "the peer has said that nobody got it");
        }
        // Without anything else that happens to the socket.
        let mut left = [0; 5];
        far.read_exact(&mut left).await.unwrap();
        assert_eq!(&left, b"hello");
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut left).await.unwrap(), 0);
    });
}

#[test]
fn nothing_is_risked_with_a_peer_that_has_been_silent() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let (mut near, far) = sockets().await;
        near.write_all(b"hello").await.unwrap();
        assert!(goes_along(&client, &far, LONG).await);
        // Longer than what counts as recent.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(!goes_along(&client, &far, NOTHING).await);
    });
}

#[test]
fn what_waits_for_an_answer_counts_as_the_pods_memory() {
    run(async {
        let (client, _server) = tunnel(&Config::default()).await;
        let (mut near, far) = sockets().await;
        near.write_all(&pattern(5000, 1)).await.unwrap();
        let first = FirstBytes::of(&far);
        let error = client.open(&to(3), &first).await.unwrap_err();
        assert_eq!(error, OpenError::Reset(ResetReason::EnhanceYourCalm));
        assert!(first.are_under_way(), "a reset does not say what became of it");
    });
}
