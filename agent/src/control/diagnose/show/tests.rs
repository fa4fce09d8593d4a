//! What people read, and what programs read: fixed inputs, fixed outputs. `UPDATE_GOLDEN=1` writes what comes out.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::style::Style;
use super::{check, connections, lists, nodes, status};
use crate::control::diagnose::check::Finding;
use crate::control::diagnose::connections::{ConnectionLine, Connections, PeerLine};
use crate::control::diagnose::dump::agent::{CertificateFacts, CertificateLine, Counts, Dump, Kubelet, PodLine};
use crate::control::diagnose::dump::mesh::{
    AuthorizationLine, EndpointLine, PeerAuthenticationLine, ServiceLine, WorkloadLine,
};

/// 2026-01-01T12:00:00Z
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_268_800)
}

/// Compares with a file beside this one, in `golden/`.
fn expect(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/control/diagnose/show/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{}", path.display());
}

fn identity(account: &str) -> String {
    format!("spiffe://cluster.local/ns/demo/sa/{account}")
}

fn pod(name: &str, ip: &str, waiting: Option<&str>) -> PodLine {
    PodLine {
        namespace: "demo".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        ips: vec![ip.parse().unwrap()],
        identity: identity(name),
        netns: Some(format!("/run/netns/{name}").into()),
        enrolled: waiting.is_none(),
        waiting_for: waiting.map(str::to_owned),
    }
}

fn workload(name: &str, node: &str, ip: &str, reason: Option<&str>) -> WorkloadLine {
    WorkloadLine {
        uid: format!("Kubernetes//Pod/demo/{name}"),
        namespace: "demo".into(),
        name: name.into(),
        node: node.into(),
        workload_ips: vec![ip.parse().unwrap()],
        protocol: "HBONE".into(),
        identity: identity(name),
        enrolled: reason.is_none(),
        reason: reason.map(str::to_owned),
        ..WorkloadLine::default()
    }
}

fn service() -> ServiceLine {
    let endpoint = |status: &str| EndpointLine { status: status.into(), ..EndpointLine::default() };
    ServiceLine {
        namespace: "demo".into(),
        name: "db".into(),
        hostname: "db.demo.svc.cluster.local".into(),
        vips: vec!["/10.96.0.7".into()],
        ports: [(80, 8080), (5432, 5432)].into(),
        endpoints: [("a".to_owned(), endpoint("Healthy")), ("b".to_owned(), endpoint("Unhealthy"))].into(),
        ..ServiceLine::default()
    }
}

fn certificates() -> Vec<CertificateLine> {
    let facts = |until: &str| {
        vec![CertificateFacts {
            serial_number: "4f0a6b1c2d3e4f5061728394".into(),
            valid_from: "2026-01-01T00:00:00Z".into(),
            expiration_time: until.into(),
        }]
    };
    let line = |account: &str, state: &str, cert_chain, error: Option<&str>| CertificateLine {
        identity: identity(account),
        state: state.into(),
        cert_chain,
        rotations: 3,
        last_error: error.map(str::to_owned),
    };
    vec![
        line("web", "Available", facts("2026-01-02T00:00:00Z"), None),
        line("db", "Unavailable", facts("2026-01-01T11:58:00Z"), Some("the authority does not answer")),
        line("new", "Initializing", Vec::new(), None),
    ]
}

fn dump() -> Dump {
    let labels = || [("app", "db")].into_iter().collect();
    Dump {
        version: "0.1.0".into(),
        config: crate::control::diagnose::dump::agent::AgentConfig { node: "node-a".into(), ..Default::default() },
        ready: true,
        started_at: "2026-01-01T09:30:00Z".into(),
        state_version: 17,
        state_loaded: true,
        state_since: Some("2026-01-01T11:59:56.500Z".into()),
        counts: Counts {
            pods_carried: 1,
            pods_waiting: 1,
            workloads: 4,
            services: 1,
            policies: 3,
            certificates_valid: 1,
            certificates_missing: 2,
            problems: 1,
        },
        kubelet: Some(Kubelet { cgroup: Some("/system.slice/kubelet.service".into()), ..Kubelet::default() }),
        log: crate::control::diagnose::dump::agent::LogStatus {
            filter: "info".into(),
            start: "info".into(),
            dropped_lines: 0,
        },
        pods: Some(vec![
            pod("web", "10.0.1.7", None),
            pod("new", "10.0.1.8", Some("no network namespace has its address")),
        ]),
        workloads: Some(vec![
            workload("db", "node-b", "10.0.2.9", None),
            workload("new", "node-a", "10.0.1.8", None),
            // Whoever may create objects chooses their names.
            workload("old\u{1b}[2J", "node-a", "10.0.1.9", Some("the pod has istio.io/dataplane-mode=none")),
            workload("web", "node-a", "10.0.1.7", None),
        ]),
        services: Some(vec![service()]),
        authorization_policies: Some(vec![
            AuthorizationLine {
                namespace: "demo".into(),
                name: "only-api".into(),
                selector: labels(),
                action: "ALLOW".into(),
                rules: 1,
                invalid: false,
            },
            AuthorizationLine {
                namespace: "demo".into(),
                name: "wrong".into(),
                action: "DENY".into(),
                rules: 1,
                invalid: true,
                ..Default::default()
            },
        ]),
        peer_authentications: Some(vec![PeerAuthenticationLine {
            namespace: "istio-system".into(),
            name: "default".into(),
            mode: "STRICT".into(),
            ports: [(9090, "PERMISSIVE".to_owned())].into(),
            ..PeerAuthenticationLine::default()
        }]),
        certificates: Some(certificates()),
        problems: Some(vec![
            "demo.yaml:12: AuthorizationPolicy demo/wrong: spec.rules[0].nonsense: there is no such field".into(),
        ]),
        ..Dump::default()
    }
}

fn open() -> Connections {
    let peer = |address: &str, pod: Option<&str>| PeerLine {
        address: address.parse().unwrap(),
        pod: pod.map(|pod| format!("demo/{pod}")),
        identity: pod.map(identity),
    };
    let line = |direction: &str, protocol: &str, ends: [PeerLine; 2], bytes: [u64; 2]| {
        let [source, destination] = ends;
        ConnectionLine {
            pod: "demo/web".into(),
            direction: direction.into(),
            protocol: protocol.into(),
            source,
            destination,
            service: (direction == "outbound").then(|| "db.demo.svc.cluster.local".to_owned()),
            bytes_from_source: bytes[0],
            bytes_from_destination: bytes[1],
            age_ms: 192_000,
            policy: (direction == "inbound").then(|| "demo/only-api".to_owned()),
        }
    };
    let (web, db) = (peer("10.0.1.7:41234", Some("web")), peer("10.0.2.9:5432", Some("db")));
    Connections {
        total: 12,
        next: Some("0.7".into()),
        connections: vec![
            line("outbound", "hbone", [web, db], [1500, 20 << 20]),
            line("inbound", "plain", [peer("192.0.2.1:50000", None), peer("10.0.1.7:8080", Some("web"))], [80, 7]),
        ],
    }
}

#[test]
fn lists_for_people() {
    let dump = dump();
    expect("pods.txt", &lists::pods(&dump, None, Style::PLAIN));
    expect("pods-mesh.txt", &lists::workloads(&dump, Some("demo"), Style::PLAIN));
    expect("services.txt", &lists::services(&dump, None, Style::PLAIN));
    expect("certificates.txt", &lists::certificates(&dump, now(), Style::PLAIN));
    expect("policies.txt", &lists::policies(&dump, None, Style::PLAIN));
    assert_eq!(lists::services(&dump, Some("other"), Style::PLAIN), "no services\n");
}

#[test]
fn agents_for_people() {
    let dump = dump();
    expect("status.txt", &status::status(&dump, 3, now(), Style::PLAIN));
    expect("status-colours.txt", &status::status(&dump, 3, now(), Style { colours: true }));
    let line = |node: &str, status: Option<Dump>, error: Option<&str>| nodes::NodeLine {
        node: node.into(),
        pod: format!("sotto-node-{node}"),
        status,
        error: error.map(str::to_owned),
    };
    let all = [line("node-a", Some(dump), None), line("node-b", None, Some("the pod is not running (Pending)"))];
    expect("nodes.txt", &nodes::nodes(&all, now(), Style::PLAIN));
    assert!(!nodes::are_fine(&all));
}

#[test]
fn connections_for_people_and_programs() {
    expect("connections.txt", &connections::connections(&open(), Style::PLAIN));
    expect("connections.json", &(serde_json::to_string_pretty(&open()).unwrap() + "\n"));
    assert_eq!(connections::connections(&Connections::default(), Style::PLAIN), "no open connections\n");
}

#[test]
fn checks_for_people_and_programs() {
    let findings = [
        Finding::ok("kernel", "Linux 6.18.1"),
        Finding::warning("clock", "nothing keeps it in step", "run chrony, systemd-timesyncd or the like"),
        Finding::failed("port 15000", "127.0.0.1:15000 is in use by something else", "end what listens there"),
        Finding::skipped("API server", "neither --kubeconfig nor a pod of a cluster"),
    ];
    expect("check.txt", &check::findings(&findings, Style::PLAIN));
    expect("check.json", &(serde_json::to_string_pretty(&findings).unwrap() + "\n"));
}

#[test]
fn a_dump_keeps_its_names() {
    let json = serde_json::to_string_pretty(&dump()).unwrap() + "\n";
    expect("config-dump.json", &json);
    assert_eq!(serde_json::from_str::<Dump>(&json).unwrap(), dump());
}
