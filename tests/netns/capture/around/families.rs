//! Pods with addresses of one family only.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use harness::{DEADLINE, Pod, holds_for};
use serde_json::json;

use super::way::{PATIENCE, PORT, Way};
use crate::fixture::Pair;

#[test]
fn a_pod_without_ipv6_is_carried_and_held() {
    let Some(way) = Way::plain("a_pod_without_ipv6_is_carried_and_held") else { return };
    let client = &way.pair.client;
    client.netns().sysctl("net/ipv6/conf/all/disable_ipv6", "1");
    client.netns().sysctl("net/ipv6/conf/lo/disable_ipv6", "1");
    check_single_family(&way, client.ip(), way.pair.server.addr(PORT), way.pair.server.addr6(PORT));
}

#[test]
fn a_pod_without_ipv4_is_carried_and_held() {
    let Some(way) = Way::plain("a_pod_without_ipv4_is_carried_and_held") else { return };
    let client = &way.pair.client;
    client.netns().ip(&format!("addr del {}/32 dev eth0", client.ip()));
    check_single_family(&way, client.ip6(), way.pair.server.addr6(PORT), way.pair.server.addr(PORT));
}

/// A client with one address talks to addresses of its family, also across a crash, and to none of the other.
fn check_single_family(way: &Way, own: IpAddr, to: SocketAddr, other: SocketAddr) {
    let Pair { mesh, client, a, agent_a, .. } = &way.pair;
    say_only_address(way, client, own);
    way.pair.enrol();
    let capture = mesh.capture();
    client.connect(to).exchange(&way.secret);
    assert_eq!(way.echo.peers().last().map(SocketAddr::ip), Some(own));
    client.try_connect(other, DEADLINE).expect_err("it has no address of that family");
    agent_a.kill();
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let conn = client.try_connect(to, PATIENCE).expect("it waits, then connects");
            conn.with_deadline(PATIENCE).exchange(&way.secret);
        });
        holds_for(Duration::from_millis(1200), "the connection waits", || !connecting.is_finished());
        let _next = a.start_agent();
        connecting.join().expect("served in the end");
    });
    let wire = capture.stop();
    wire.assert_never_in_clear(&way.secret);
    assert!(wire.streams().iter().all(|s| ![s.source.port(), s.destination.port()].contains(&PORT)), "{wire}");
}

fn say_only_address(way: &Way, pod: &Pod, ip: IpAddr) {
    let mut object = pod.object();
    object["status"]["podIP"] = json!(ip);
    object["status"]["podIPs"] = json!([{ "ip": ip }]);
    way.pair.mesh.write_manifest(&pod.manifest_file(), &object.to_string());
}
