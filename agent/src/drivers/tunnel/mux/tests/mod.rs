//! The protocol's state against a model, and whole tunnels over loopback.

mod first;
mod hostile;
mod plain;
mod simulation;
mod states;
mod tunnels;

use std::time::{Duration, Instant};

use super::machine::{Event, Limits, Machine, Side};

fn limits() -> Limits {
    Limits {
        max_streams: 8,
        largest_credit: 1 << 20,
        hello: Duration::from_secs(10),
        keepalive_interval: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(20),
    }
}

fn machine(side: Side) -> Machine<()> {
    Machine::new(side, limits(), Instant::now())
}

/// Hands everything that `from` has to say to `to`, and gives what happened there.
fn carry(from: &mut Machine<()>, to: &mut Machine<()>) -> Vec<Event> {
    let bytes = from.take_output();
    let mut events = Vec::new();
    to.receive(&bytes, 0..bytes.len(), Instant::now(), &mut events).unwrap();
    events
}

/// A client and a server that have greeted each other.
fn pair() -> (Machine<()>, Machine<()>) {
    let (mut client, mut server) = (machine(Side::Client), machine(Side::Server));
    assert!(carry(&mut client, &mut server).is_empty());
    assert!(carry(&mut server, &mut client).is_empty());
    (client, server)
}
