//! What each frame does, and what it may not.

use super::super::frame::{Header, Kind};
use super::super::machine::{EARLY, FIRST_CREDIT};
use super::*;
use crate::drivers::tunnel::{Cause, ConnectRequest, NotProcessed, Refusal, ResetReason, TunnelError};
use crate::model::authority::Authority;
use crate::model::baggage::BaggageText;

fn request() -> ConnectRequest {
    ConnectRequest::to("10.0.0.1:80".parse::<Authority>().unwrap())
}

/// A stream that both hold for open.
fn opened() -> (Machine<()>, Machine<()>, u32) {
    let (mut client, mut server) = pair();
    let id = client.open(&request()).unwrap();
    assert_eq!(carry(&mut client, &mut server), [Event::Open(id, Box::new(Ok(request())))]);
    server.accept(id, Some(&BaggageText::received("service.name=web"))).unwrap();
    assert!(
        matches!(&carry(&mut server, &mut client)[..], [Event::Accepted(1, baggage)] if !baggage.read().is_empty())
    );
    (client, server, id)
}

/// Sends `length` bytes of data from one to the other.
fn data(from: &mut Machine<()>, to: &mut Machine<()>, id: u32, length: usize) -> Vec<Event> {
    let mut bytes = from.take_output();
    bytes.extend(from.data(id, length));
    bytes.resize(bytes.len() + length, 7);
    let mut events = Vec::new();
    to.receive(&bytes, 0..bytes.len(), Instant::now(), &mut events).unwrap();
    events
}

#[test]
fn a_stream_lives_from_open_to_both_ends() {
    let (mut client, mut server, id) = opened();
    assert_eq!(data(&mut client, &mut server, id, 100).len(), 1);
    client.finish(id).unwrap();
    client.finish(id).unwrap();
    assert_eq!(carry(&mut client, &mut server), [Event::Finished(id)]);
    assert_eq!(data(&mut server, &mut client, id, 5).len(), 1);
    server.finish(id).unwrap();
    assert_eq!(carry(&mut server, &mut client), [Event::Finished(id)]);
    client.release(id);
    server.release(id);
    assert!(!client.has_output() && !server.has_output(), "what has ended needs no reset");
    assert_eq!((client.live(), server.live()), (0, 0));
}

#[test]
fn a_client_may_say_something_before_it_is_answered() {
    let (mut client, mut server) = pair();
    let id = client.open(&request()).unwrap();
    let events = data(&mut client, &mut server, id, EARLY);
    assert!(matches!(&events[..], [Event::Open(..), Event::Data(..)]), "{events:?}");
    server.accept(id, None).unwrap();
    carry(&mut server, &mut client);
    assert_eq!(client.credit(id).unwrap(), FIRST_CREDIT as usize - EARLY, "it counts");
    assert_eq!(data(&mut client, &mut server, id, 10).len(), 1);
}

#[test]
fn a_refusal_says_why() {
    let (mut client, mut server) = pair();
    let id = client.open(&request()).unwrap();
    carry(&mut client, &mut server);
    server.refuse(id, Refusal::unavailable(Cause::ConnectionRefused));
    let refused = Refusal::unavailable(Cause::ConnectionRefused);
    assert_eq!(carry(&mut server, &mut client), [Event::Refused(id, refused)]);
    assert!(client.credit(id).is_err());
}

#[test]
fn whoever_lets_go_resets() {
    let (mut client, mut server, id) = opened();
    client.release(id);
    assert_eq!(carry(&mut client, &mut server), [Event::Reset(id, ResetReason::Cancel)]);
    assert!(server.finish(id).is_err());
    // What was under way meanwhile is for nobody.
    let (mut client, mut server, id) = opened();
    client.release(id);
    assert!(data(&mut server, &mut client, id, 10).is_empty());
}

#[test]
fn credit_is_all_that_may_be_sent_and_grows_for_those_who_keep_up() {
    let (mut client, mut server, id) = opened();
    let first = FIRST_CREDIT as usize;
    assert_eq!(client.credit(id).unwrap(), first);
    data(&mut client, &mut server, id, first);
    assert_eq!(client.credit(id).unwrap(), 0);
    server.consumed(id, first / 2 - 1);
    assert!(!server.has_output(), "not worth saying yet");
    server.consumed(id, first / 2 + 1);
    assert_eq!(carry(&mut server, &mut client), [Event::Credit(id)]);
    assert_eq!(client.credit(id).unwrap(), 2 * first, "twice as much at a time from now on");
    let mut most = 0;
    for _ in 0..10 {
        let all = client.credit(id).unwrap();
        most = most.max(all);
        data(&mut client, &mut server, id, all);
        server.consumed(id, all);
        carry(&mut server, &mut client);
    }
    assert_eq!(most, 1 << 20);
    // One that stalls gets no more than it had.
    let (mut client, mut server, id) = opened();
    data(&mut client, &mut server, id, first);
    server.stalled(id);
    server.consumed(id, first);
    carry(&mut server, &mut client);
    assert_eq!(client.credit(id).unwrap(), first);
}

#[test]
fn no_more_streams_than_either_side_takes() {
    let (mut client, mut server) = pair();
    for _ in 0..8 {
        client.open(&request()).unwrap();
    }
    assert_eq!(client.open(&request()), Err(NotProcessed::Full));
    assert_eq!(carry(&mut client, &mut server).len(), 8);
    // A client that opens more all the same has it refused without being looked at.
    let mut rude = Machine::<()>::new(Side::Client, Limits { max_streams: 100, ..limits() }, Instant::now());
    let mut server = machine(Side::Server);
    for _ in 0..9 {
        rude.open(&request()).unwrap();
    }
    assert_eq!(carry(&mut rude, &mut server).len(), 8);
    assert_eq!(carry(&mut server, &mut rude), [Event::Reset(9, ResetReason::Refused)]);
}

#[test]
fn whoever_leaves_finishes_what_it_began() {
    let (mut client, mut server, id) = opened();
    server.leave(ResetReason::NoError);
    let late = client.open(&request()).unwrap();
    let asked = client.take_output();
    let events = carry(&mut server, &mut client);
    assert_eq!(events, [Event::GoingAway, Event::Reset(late, ResetReason::Refused)]);
    assert_eq!(client.open(&request()), Err(NotProcessed::GoingAway));
    assert_eq!(data(&mut client, &mut server, id, 10).len(), 1);
    let mut events = Vec::new();
    server.receive(&asked, 0..asked.len(), Instant::now(), &mut events).unwrap();
    assert!(events.is_empty(), "what crossed the GOAWAY is refused");
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let start = Instant::now();
    let mut client = Machine::<()>::new(Side::Client, limits(), start);
    assert_eq!(client.tick(start).unwrap(), start + limits().hello);
    assert_eq!(client.tick(start + limits().hello), Err(TunnelError::Handshake(limits().hello)));

    let mut server = machine(Side::Server);
    let hello = server.take_output();
    client.receive(&hello, 0..hello.len(), start, &mut Vec::new()).unwrap();
    client.take_output();
    let asks = client.tick(start).unwrap();
    assert_eq!(asks, start + limits().keepalive_interval);
    let gives_up = client.tick(asks).unwrap();
    assert_eq!(gives_up, asks + limits().keepalive_timeout);
    let ping = client.take_output();
    assert_eq!(ping[..8], Header::encode(0, Kind::Ping, 8));
    assert!(client.tick(gives_up).is_err());
    // Any word will do.
    let pong: Vec<u8> = Header::encode(0, Kind::Pong, 8).into_iter().chain([0; 8]).collect();
    client.receive(&pong, 0..pong.len(), asks, &mut Vec::new()).unwrap();
    assert_eq!(client.tick(asks).unwrap(), asks + limits().keepalive_interval);
}
