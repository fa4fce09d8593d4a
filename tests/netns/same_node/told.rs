//! What the agent tells of connections that do not pass through it.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use harness::{AccessEntry, Conn, DEADLINE, eventually};
use serde_json::{Value, json};

use super::home::Home;

const REQUEST: usize = 300_000;
const RESPONSE: usize = 70_000;

/// Both lines of a connection, the client's side first, once both are there.
#[track_caller]
fn lines(home: &Home, client: SocketAddr) -> [AccessEntry; 2] {
    let side = |direction: &'static str| {
        home.agent.wait_access(&format!("{direction} line of {client}"), |entry| {
            entry.field("src.addr") == client.to_string() && entry.field("direction") == direction
        })
    };
    [side("outbound"), side("inbound")]
}

/// Sends a request, and gets its response.
fn exchange(conn: &mut Conn) {
    conn.send(vec![b'q'; REQUEST]);
    assert_eq!(conn.receive(RESPONSE).len(), RESPONSE);
}

/// Takes a request, and answers it; `false` if there was none.
fn answer(conn: &mut Conn) -> bool {
    let asked = conn.stream().read_exact(&mut vec![0; REQUEST]).is_ok();
    if asked {
        conn.send(vec![b'a'; RESPONSE]);
    }
    asked
}

#[track_caller]
fn assert_complete(home: &Home, client: SocketAddr) {
    let [source, destination] = lines(home, client);
    assert_eq!([source.field("bytes_sent"), source.field("bytes_recv")], ["300000", "70000"], "{}", source.line());
    let [sent, received] = [destination.field("bytes_sent"), destination.field("bytes_recv")];
    assert_eq!([sent, received], ["70000", "300000"], "{}", destination.line());
    for line in [&source, &destination] {
        assert_eq!(line.source_identity(), home.client.identity());
        assert_eq!(line.destination_identity(), home.server.identity());
        assert_eq!(line.field("dst.addr"), home.server.addr(8080).to_string());
        assert_eq!([line.field("src.workload"), line.field("dst.workload")], ["client", "server"]);
        assert!(
            line.line().contains("connection complete") && line.field("duration").ends_with("ms"),
            "{}",
            line.line()
        );
    }
}

#[test]
fn bytes_are_exact_whoever_ends_it_and_however() {
    let Some(home) = Home::new("bytes_are_exact_whoever_ends_it_and_however") else { return };
    home.server.serve(8080, |mut conn| {
        if answer(&mut conn) {
            conn.receive_to_end();
        }
    });
    home.server.serve(8081, |mut conn| {
        answer(&mut conn);
    });
    // The client closes.
    let mut conn = home.direct(8080);
    let client = conn.local_addr();
    exchange(&mut conn);
    drop(conn);
    assert_complete(&home, client);
    // The client ends its side, and waits for the server's end.
    let mut conn = home.direct(8080);
    let client = conn.local_addr();
    exchange(&mut conn);
    conn.half_close();
    conn.expect_eof();
    drop(conn);
    assert_complete(&home, client);
    // The client has ended its side before the answer comes.
    let mut conn = home.direct(8081);
    let client = conn.local_addr();
    conn.send(vec![b'q'; REQUEST]);
    conn.half_close();
    assert_eq!(conn.receive_to_end().len(), RESPONSE);
    drop(conn);
    let [source, _] = lines(&home, client);
    assert_eq!([source.field("bytes_sent"), source.field("bytes_recv")], ["300000", "70000"], "{}", source.line());
    // The server closes.
    let mut conn = home.direct(8081);
    let client = conn.local_addr();
    exchange(&mut conn);
    conn.expect_eof();
    drop(conn);
    let [source, _] = lines(&home, client);
    assert_eq!([source.field("bytes_sent"), source.field("bytes_recv")], ["300000", "70000"], "{}", source.line());
}

#[test]
fn both_reporters_count_what_is_open_and_what_has_ended() {
    let Some(home) = Home::new("both_reporters_count_what_is_open_and_what_has_ended") else { return };
    home.server.serve_echo(8080);
    drop(home.direct(8080));
    let sum = |name: &str, reporter: &str| {
        let labels = [("reporter", reporter), ("source_workload", "client"), ("destination_workload", "server")];
        home.agent.metrics().sum(name, &labels).round() as i64
    };
    let open = |reporter: &str| {
        sum("istio_tcp_connections_opened_total", reporter) - sum("istio_tcp_connections_closed_total", reporter)
    };
    let all_ended = || ["source", "destination"].iter().all(|reporter| open(reporter) == 0);
    eventually(DEADLINE, "what came before is counted", || all_ended().then_some(()));
    let before = ["source", "destination"].map(|reporter| sum("istio_tcp_sent_bytes_total", reporter));

    let mut conn = home.direct(8080);
    eventually(DEADLINE, "all before the last have ended", || {
        ["source", "destination"].iter().all(|reporter| open(reporter) == 1).then_some(())
    });
    conn.exchange("seventeen letters");
    drop(conn);
    eventually(DEADLINE, "it has ended", || all_ended().then_some(()));
    let after = ["source", "destination"].map(|reporter| sum("istio_tcp_sent_bytes_total", reporter));
    assert_eq!([after[0] - before[0], after[1] - before[1]], [17, 17]);
}

/// What `sotto connections` reads, of the connections of one client: direction, protocol, and bytes from source and destination.
fn shown(home: &Home, client: SocketAddr) -> Vec<(String, String, u64, u64)> {
    let page: Value = serde_json::from_str(&home.agent.get("/connections")).unwrap();
    let lines = page["connections"].as_array().unwrap().iter();
    let own = lines.filter(|line| line["source"]["address"] == client.to_string());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let bytes = |value: &Value| value.as_u64().unwrap();
    let mut own: Vec<_> = own
        .map(|line| {
            let bytes = (bytes(&line["bytesFromSource"]), bytes(&line["bytesFromDestination"]));
            (text(&line["direction"]), text(&line["protocol"]), bytes.0, bytes.1)
        })
        .collect();
    own.sort();
    own
}

#[test]
fn what_is_open_is_shown_and_counted_with_its_bytes_so_far() {
    let Some(home) = Home::new("what_is_open_is_shown_and_counted_with_its_bytes_so_far") else { return };
    let (release, until) = mpsc::channel::<()>();
    let until = Mutex::new(until);
    home.server.serve(8080, move |mut conn| {
        if answer(&mut conn) {
            conn.receive_to_end();
            // Only an end is ever received.
            let _end = until.lock().unwrap().recv();
        }
    });
    let sent = |reporter: &str| {
        let labels = [("reporter", reporter), ("source_workload", "client"), ("destination_workload", "server")];
        home.agent.metrics().sum("istio_tcp_received_bytes_total", &labels).round() as usize
    };
    let mut conn = home.direct(8080);
    let client = conn.local_addr();
    let both_sides = |from_source: usize, from_destination: usize| {
        let side =
            |direction: &str| (direction.to_owned(), "direct".to_owned(), from_source as u64, from_destination as u64);
        [side("inbound"), side("outbound")]
    };
    eventually(DEADLINE, "it is shown", || (shown(&home, client) == both_sides(0, 0)).then_some(()));
    let before = ["source", "destination"].map(sent);
    exchange(&mut conn);
    // No look is needed in between: whoever asks sees what is there now.
    assert_eq!(shown(&home, client), both_sides(REQUEST, RESPONSE));
    eventually(DEADLINE, "its bytes are counted while it is open", || {
        (["source", "destination"].map(sent) == before.map(|before| before + REQUEST)).then_some(())
    });
    conn.half_close();
    eventually(DEADLINE, "a FIN is no byte", || (shown(&home, client) == both_sides(REQUEST, RESPONSE)).then_some(()));
    drop(release);
    conn.expect_eof();
    drop(conn);
    assert_complete(&home, client);
    eventually(DEADLINE, "it is gone", || shown(&home, client).is_empty().then_some(()));
    assert_eq!(["source", "destination"].map(sent), before.map(|before| before + REQUEST), "nothing is counted twice");
}

#[test]
fn the_policy_that_let_it_in_and_the_one_that_closed_it_are_named() {
    let Some(home) = Home::new("the_policy_that_let_it_in_and_the_one_that_closed_it_are_named") else { return };
    home.server.serve_echo(8080);
    let allow = home.mesh.authorization_policy("all-of-demo").action("ALLOW");
    let _allow = allow.rules(json!([{"from": [{"source": {"namespaces": ["demo"]}}]}])).create();
    let is_named = |conn: &Conn, policy: &str| {
        let [_, inbound] = lines(&home, conn.local_addr());
        inbound.field("policy") == policy
    };
    eventually(DEADLINE, "a direct connection is let in by the policy", || {
        let conn = home.direct(8080);
        conn.stream().shutdown(std::net::Shutdown::Both).ok()?;
        is_named(&conn, "demo/all-of-demo").then_some(())
    });
    let conn = home.direct(8080);
    let client = conn.local_addr();
    let _deny = home.mesh.authorization_policy("nobody").action("DENY").rules(json!([{}])).create();
    conn.with_deadline(DEADLINE).expect_reset();
    let [_, inbound] = lines(&home, client);
    assert_eq!([inbound.field("policy"), inbound.field("reason")], ["demo/nobody", "deny_rule"], "{}", inbound.line());
    assert!(inbound.line().contains("connection closed by policy"), "{}", inbound.line());
    let labels = [("action", "closed"), ("policy", "demo/nobody")];
    eventually(DEADLINE, "it is counted", || {
        (home.agent.metrics().sum("sotto_policy_refusals_total", &labels) >= 1.0).then_some(())
    });
}
