//! Connections that are tried, and what agents tell of those they refuse.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use harness::{Agent, Conn, DEADLINE, Pod, Site, eventually};
use serde_json::{Value, json};

use crate::fixture::is_refusal;

/// What a refused client may wait for its reset.
pub(super) const PROMPT: Duration = Duration::from_secs(5);

/// One exchange with the echo server at `address`.
pub(super) fn try_exchange(site: &Site, address: SocketAddr) -> io::Result<()> {
    let conn = site.try_connect(address, PROMPT)?.with_deadline(PROMPT);
    let mut stream = conn.stream();
    stream.write_all(b"ping")?;
    let mut echo = [0; 4];
    stream.read_exact(&mut echo)
}

/// Waits until connections get through.
#[track_caller]
pub(super) fn wait_reached(site: &Site, address: SocketAddr) {
    eventually(DEADLINE, &format!("{address} is reached"), || try_exchange(site, address).ok());
}

/// Waits until connections fail as those to a closed port do.
#[track_caller]
pub(crate) fn wait_refused(site: &Site, address: SocketAddr) {
    eventually(DEADLINE, &format!("{address} is refused"), || match try_exchange(site, address) {
        Ok(()) => None,
        Err(error) if is_refusal(&error) => Some(()),
        Err(error) => panic!("{error} instead of a refusal at {address}"),
    });
}

/// Waits for the access-log line of a refusal, by the client's address, and for its count.
#[track_caller]
pub(super) fn wait_told(agent: &Agent, from: &Pod, policy: &str, reason: &str) {
    let (v4, v6) = (format!("{}:", from.ip()), format!("[{}]:", from.ip6()));
    agent.wait_access(&format!("{reason} by {policy}"), |entry| {
        let source = entry.field("src.addr");
        let is_from = source.starts_with(&v4) || source.starts_with(&v6);
        is_from && entry.field("policy") == policy && entry.field("reason") == reason
    });
    // Denied, or closed: an attempt may have been let in just before the policy came.
    let labels = [("policy", policy), ("reason", reason)];
    eventually(DEADLINE, "it is counted", || {
        (agent.metrics().sum("sotto_policy_refusals_total", &labels) >= 1.0).then_some(())
    });
}

/// A rule about sources.
pub(super) fn source(source: Value) -> Value {
    json!([{"from": [{"source": source}]}])
}

/// Connections that have carried something.
pub(super) fn open(from: &Pod, to: SocketAddr, count: usize) -> Vec<Conn> {
    let open = |_| {
        let mut conn = from.connect(to);
        conn.exchange("hello");
        conn
    };
    (0..count).map(open).collect()
}
