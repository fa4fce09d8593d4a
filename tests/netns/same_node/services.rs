//! Services whose endpoints are on the node of their client, and elsewhere.

use std::collections::BTreeMap;

use harness::{DEADLINE, Pod, eventually};

use super::home::{Home, direct, is_direct};

/// Serves the pod's own name.
fn serve_name(pod: &Pod, port: u16) -> harness::Server {
    let name = pod.name();
    pod.serve_http(port, move |_| name.clone())
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
            let mut conn = home.client.connect(to);
            assert_eq!(conn.peer_addr(), to, "the client sees the service's address");
            directly += usize::from(is_direct(&home.client, &conn));
            conn.send("GET / HTTP/1.0\r\n\r\n");
            let answer = String::from_utf8(conn.receive_to_end()).unwrap();
            *answers.entry(answer.split("\r\n\r\n").last().unwrap().to_owned()).or_default() += 1;
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
    eventually(DEADLINE, "it listens no longer", || home.server.try_connect(pods[1].addr(8080), DEADLINE).err().map(drop));
    let failures = (0..40).filter(|_| home.client.try_connect(service.addr(80), DEADLINE).is_err()).count();
    assert!(failures <= 1, "{failures} of 40 connections failed");
    // One that is not ready gets none at all.
    pods[1].set_ready(false);
    eventually(DEADLINE, "the agent knows", || {
        let before = home.agent.access_log().len();
        (0..20).for_each(|_| drop(home.client.http_get(service.addr(80), "/")));
        home.agent.wait_access("the last of them", |entry| entry.field("direction") == "outbound");
        let log = home.agent.access_log();
        log[before.min(log.len())..].iter().all(|entry| entry.field("dst.workload") != "web-2").then_some(())
    });
}
