//! An agent is ready when it carries its pods, and says what it waits for until then.

use std::time::Duration;

use harness::{DEADLINE, Mesh, eventually};

/// Programs are loaded first.
const START: Duration = Duration::from_secs(20);

#[test]
fn an_agent_without_certificates_for_its_pods_is_not_ready_and_names_them() {
    let Some(mesh) = Mesh::new("an_agent_without_certificates_for_its_pods_is_not_ready_and_names_them") else {
        return;
    };
    let node = mesh.node("a");
    let pods: Vec<_> = (0..7).map(|number| node.pod(&format!("pod-{number}")).start()).collect();
    mesh.namespace("demo").enrol();
    let agent = node.agent().without_authority().spawn();
    let said = eventually(START, "it says which pods wait", || match agent.try_get("/healthz/ready") {
        Ok((200, body)) => panic!("it is ready without a certificate: {body}"),
        Ok((500, body)) => body.contains("demo/pod-").then_some(body),
        _ => None,
    });
    let named = pods.iter().filter(|pod| said.contains(&format!("{pod}:"))).count();
    assert_eq!(named, 5, "five are named: {said}");
    assert!(said.contains("; and 2 more"), "{said}");
    assert!(said.contains("has no certificate yet"), "{said}");
    assert_eq!(agent.metrics().sum("workload_manager_pending_proxy_count", &[]), 7.0);
    eventually(DEADLINE, "attempts that fail are counted", || {
        (agent.metrics().sum("sotto_certificate_failures_total", &[]) >= 1.0).then_some(())
    });
    assert_eq!(agent.metrics().sum("sotto_certificates", &[("state", "missing")]), 7.0);

    mesh.namespace("demo").leave();
    agent.wait_ready();
}

#[test]
fn a_ready_agent_tells_of_its_certificates_maps_and_state() {
    let Some(pair) = crate::fixture::Pair::enrolled("a_ready_agent_tells_of_its_certificates_maps_and_state") else {
        return;
    };
    let metrics = || pair.agent_a.metrics();
    let is = |name: &str, labels: &[(&str, &str)], value: f64| {
        eventually(Duration::from_secs(25), &format!("{name}{labels:?} is {value}"), || {
            (metrics().sum(name, labels) == value).then_some(())
        });
    };
    is("workload_manager_active_proxy_count", &[], 1.0);
    is("workload_manager_proxies_started_total", &[], 1.0);
    is("sotto_certificates", &[("state", "valid")], 1.0);
    is("sotto_certificates_issued_total", &[], 1.0);
    is("sotto_state_loaded", &[], 1.0);
    is("sotto_bpf_map_entries", &[("map", "PODS")], 1.0);
    is("sotto_bpf_map_capacity", &[("map", "PODS")], 4096.0);
    // Three roles, and an address of either family.
    is("sotto_bpf_map_entries", &[("map", "LISTENERS")], 6.0);
    is("sotto_bpf_map_capacity", &[("map", "LISTENERS")], 32_768.0);
    for map in ["VERDICTS", "DIRECT_FLOWS", "SERVICES", "ENDPOINTS"] {
        is("sotto_bpf_map_entries", &[("map", map)], 0.0);
        assert!(metrics().sum("sotto_bpf_map_capacity", &[("map", map)]) > 0.0, "{map}");
    }
    is("sotto_log_lines_dropped_total", &[], 0.0);
    pair.leave();
    is("workload_manager_proxies_stopped_total", &[], 1.0);
    is("sotto_bpf_map_entries", &[("map", "PODS")], 0.0);
    is("sotto_bpf_map_entries", &[("map", "LISTENERS")], 0.0);
}
