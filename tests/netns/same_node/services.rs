//! Services whose endpoints are on the node of their client, and elsewhere.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use harness::{Conn, DEADLINE, Pod, Server, eventually};

use super::home::{Home, direct, is_direct};

/// Serves the pod's own name to whoever says something.
fn serve_name(pod: &Pod, port: u16) -> Server {
    let name = pod.name();
    pod.serve(port, move |conn| {
        let mut stream = conn.stream();
        if stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {
            let _gone = stream.write_all(name.as_bytes());
        }
    })
}

/// Who answers on a connection; nobody if it is broken off.
fn ask(conn: &Conn) -> String {
    let mut answer = String::new();
    let mut stream = conn.stream();
    let _broken = stream.write_all(b"who?").and_then(|()| stream.read_to_string(&mut answer));
    answer
}

#[test]
fn every_endpoint_gets_its_share_wherever_it_is() {
    let Some(home) = Home::new("every_endpoint_gets_its_share_wherever_it_is") else { return };
    let far = home.mesh.node("b");
    let web = |node: &harness::Node, name: &str| node.pod(name).label("role", "web").start();
    let pods = [web(&home.node, "web-1"), web(&home.node, "web-2"), web(&far, "web-3")];
    let _agent = far.start_agent();
    home.mesh.wait_enrolled(&pods.each_ref());
    pods.iter().for_each(|pod| drop(serve_name(pod, 8080)));
    let service = home.mesh.service("web").port(80, 8080).selector("role", "web").create();
    home.agent.wait_service(&service);
    for to in [service.addr(80), service.addr6(80)] {
        let (mut answers, mut directly) = (BTreeMap::<String, usize>::new(), 0);
        const REQUESTS: usize = 300;
        for _ in 0..REQUESTS {
            let conn = home.client.connect(to);
            assert_eq!(conn.peer_addr(), to, "the client sees the service's address");
            directly += usize::from(is_direct(&home.client, &conn));
            *answers.entry(ask(&conn)).or_default() += 1;
        }
        println!("{to}: {answers:?}, {directly} directly");
        // Of 300 draws of three, 100 are expected with a standard deviation of 8; nine of them are never seen.
        assert_eq!(answers.len(), 3, "{answers:?}");
        assert!(answers.values().all(|share| (28..=172).contains(share)), "{answers:?}");
        let here = answers["web-1"] + answers["web-2"];
        assert!(directly > here / 2 && directly <= here, "{directly} of {here}");
    }
    let entry = home.agent.wait_access("to the service", |entry| entry.field("dst.service") == service.hostname());
    assert_eq!(entry.source_identity(), home.client.identity());
}

#[test]
fn an_endpoint_that_stops_to_listen_costs_a_connection_at_most() {
    let Some(home) = Home::new("an_endpoint_that_stops_to_listen_costs_a_connection_at_most") else { return };
    let pods = ["web-1", "web-2"].map(|name| home.node.pod(name).label("role", "web").start());
    home.mesh.wait_enrolled(&pods.each_ref());
    let _first = serve_name(&pods[0], 8080);
    let second = serve_name(&pods[1], 8080);
    let service = home.mesh.service("web").port(80, 8080).selector("role", "web").create();
    home.agent.wait_service(&service);
    // A verdict for each endpoint.
    pods.iter().for_each(|pod| drop(direct(&home.client, pod.addr(8080))));
    eventually(DEADLINE, "the service is reached directly", || {
        is_direct(&home.client, &home.client.connect(service.addr(80))).then_some(())
    });
    second.stop();
    eventually(DEADLINE, "it listens no longer", || {
        home.server.try_connect(pods[1].addr(8080), DEADLINE).err().map(drop)
    });
    let answers: Vec<_> =
        (0..40).map(|_| home.client.try_connect(service.addr(80), DEADLINE).ok().map(|conn| ask(&conn))).collect();
    let failures = answers.iter().filter(|answer| answer.as_deref() != Some("web-1")).count();
    assert!(failures <= 1, "{failures} of 40 connections failed: {answers:?}");
}

#[test]
fn an_endpoint_that_is_not_ready_gets_no_new_connection() {
    let Some(home) = Home::new("an_endpoint_that_is_not_ready_gets_no_new_connection") else { return };
    let pods = ["web-1", "web-2"].map(|name| home.node.pod(name).label("role", "web").start());
    home.mesh.wait_enrolled(&pods.each_ref());
    pods.iter().for_each(|pod| drop(serve_name(pod, 8080)));
    let service = home.mesh.service("web").port(80, 8080).selector("role", "web").create();
    home.agent.wait_service(&service);
    let reached = |count: usize| (0..count).map(|_| ask(&home.client.connect(service.addr(80)))).collect::<Vec<_>>();
    eventually(DEADLINE, "both are reached", || {
        let answers = reached(10);
        pods.iter().all(|pod| answers.contains(&pod.name())).then_some(())
    });
    let mut open = direct(&home.client, pods[1].addr(8080));
    pods[1].set_ready(false);
    eventually(DEADLINE, "the agent knows", || (!reached(20).contains(&pods[1].name())).then_some(()));
    assert!(reached(100).iter().all(|answer| *answer == pods[0].name()));
    open.send("who?");
    open.expect("web-2");
}
