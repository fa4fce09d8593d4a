//! What is told of connections, in metrics and in the log.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::model::enrolment::Enrolment;
use crate::model::identity::{Identity, TrustDomain};
use crate::model::policy::evaluate::{DecidedBy, Reason, Verdict};
use crate::model::service::Service;
use crate::model::workload::{Locality, ObjectName, Owner, OwnerKind, Workload};
use crate::telemetry::access;
use crate::telemetry::labels::{Reporter, ResponseFlags, SecurityPolicy};
use crate::telemetry::log;
use crate::telemetry::metrics::{Format, Metrics};
use crate::telemetry::series::Limits;
use crate::traffic::l4::relay::RelayError;

/// What is logged while `action` runs, without the time.
fn logged(action: impl FnOnce()) -> String {
    let levels = tracing_subscriber::fmt().with_writer(io::sink).with_max_level(tracing::Level::DEBUG).finish();
    let text = access::captured(log::Format::Text, || tracing::subscriber::with_default(levels, action));
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned() + "\n").collect()
}

fn identity(name: &str) -> Identity {
    Identity::new(TrustDomain::default(), "demo", name).unwrap()
}

fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        pod: ObjectName::new("demo", name),
        uid: name.into(),
        ips: Vec::new(),
        node: "a".into(),
        identity: identity(name),
        owner: Owner { kind: OwnerKind::Deployment, name: name.into() },
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        app: name.into(),
        version: "v1".into(),
        locality: Locality::default(),
        labels: Default::default(),
        host_network: false,
        enrolment: Enrolment::Enrolled,
        netns: None,
    })
}

fn connection() -> Connection {
    let target: std::net::SocketAddr = "10.0.2.1:80".parse().unwrap();
    let mut connection = Connection::between(Reporter::Source, "10.0.1.1:4000".parse().unwrap(), target);
    connection.destination.set_port(15008);
    connection.hbone_target = Some(target.into());
    connection.source_workload = Some(workload("client"));
    connection.source_identity = Some(identity("client"));
    connection.destination_workload = Some(workload("server"));
    connection.destination_identity = Some(identity("server"));
    let name = ObjectName::new("demo", "web");
    connection.service = Some(Arc::new(Service { name, vips: Vec::new(), ports: Vec::new() }));
    connection.security = SecurityPolicy::MutualTls;
    connection
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new("Kubernetes", Limits::default()))
}

fn open(connection: Connection, metrics: &Arc<Metrics>) -> Record {
    Record::new(connection, metrics, Instant::now(), Default::default())
}

/// The value of the only sample of this name that has this text among its labels.
#[track_caller]
fn sample(metrics: &Metrics, name: &str, label: &str) -> u64 {
    let page = metrics.page(Format::Text).unwrap();
    let mut found = page.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    let value = found.next().and_then(|line| line.rsplit_once(' ')).map_or(0, |(_, value)| value.parse().unwrap());
    assert_eq!(found.next(), None, "one sample of {name} with {label}");
    value
}

const SOURCE: &str = "reporter=\"source\"";
const DESTINATION: &str = "reporter=\"destination\"";

#[test]
fn a_line_has_ztunnels_fields_in_its_order_and_then_the_policy() {
    let metrics = metrics();
    let log = logged(|| {
        let record = open(connection(), &metrics);
        record.traffic().from_client.set(7);
        record.traffic().from_server.set(9);
        record.closed(&Ok(()));
    });
    let (opened, ended) = log.trim_end().split_once('\n').unwrap();
    assert!(opened.starts_with("DEBUG access: connection opened src.addr=10.0.1.1:4000 "), "{opened}");
    assert!(!opened.contains("bytes") && !opened.contains("duration"), "{opened}");
    let expected = " INFO access: connection complete src.addr=10.0.1.1:4000 src.workload=\"client\" src.namespace=\"demo\" \
         src.identity=\"spiffe://cluster.local/ns/demo/sa/client\" src.cluster=\"Kubernetes\" dst.addr=10.0.2.1:15008 \
         dst.hbone_addr=\"10.0.2.1:80\" dst.service=\"web.demo.svc.cluster.local\" dst.workload=\"server\" dst.namespace=\"demo\" \
         dst.identity=\"spiffe://cluster.local/ns/demo/sa/server\" dst.cluster=\"Kubernetes\" direction=\"outbound\" bytes_sent=7 \
         bytes_recv=9 duration=\"0ms\"";
    assert_eq!(ended, expected);
}

#[test]
fn each_side_tells_of_the_same_bytes_in_its_own_words() {
    let metrics = metrics();
    let verdict = Verdict {
        reason: Reason::AllowRule,
        decided_by: Some(DecidedBy { policy: ObjectName::new("demo", "web"), rule: Some(0) }),
    };
    let log = logged(|| {
        let connection = connection();
        let arrived = connection.arrived(verdict);
        let record = open(connection, &metrics);
        let beside = record.beside(arrived);
        record.traffic().from_client.set(7);
        record.traffic().from_server.set(9);
        [record, beside].into_iter().for_each(|record| record.closed(&Ok(())));
    });
    let arrived = log.lines().last().unwrap();
    let end =
        "direction=\"inbound\" bytes_sent=9 bytes_recv=7 duration=\"0ms\" policy=\"demo/web\" reason=\"allow_rule\"";
    assert!(arrived.ends_with(end), "{arrived}");
    for reporter in [SOURCE, DESTINATION] {
        assert_eq!(sample(&metrics, "istio_tcp_sent_bytes_total", reporter), 9);
        assert_eq!(sample(&metrics, "istio_tcp_received_bytes_total", reporter), 7);
        assert_eq!(sample(&metrics, "istio_tcp_connections_closed_total", reporter), 1);
    }
}

#[test]
fn bytes_are_counted_while_a_connection_is_open_and_only_once() {
    let metrics = metrics();
    let record = open(connection(), &metrics);
    record.traffic().from_server.set(100);
    each_open(Open::report);
    assert_eq!(sample(&metrics, "istio_tcp_sent_bytes_total", SOURCE), 100);
    assert_eq!(sample(&metrics, "istio_tcp_sockets_open", SOURCE), 1);
    record.traffic().from_server.set(150);
    record.report();
    record.closed(&Ok(()));
    assert_eq!(sample(&metrics, "istio_tcp_sent_bytes_total", SOURCE), 150);
    assert_eq!(sample(&metrics, "istio_tcp_sockets_open", SOURCE), 0);
    each_open(|open| panic!("{open:?} is not open any more"));
}

#[test]
fn open_connections_can_be_looked_at_in_parts() {
    let metrics = metrics();
    let mut records: Vec<_> = (0..5).map(|_| open(connection(), &metrics)).collect();
    records.remove(1).closed(&Ok(()));
    let (mut seen, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        from = look_at_open(place, 2, |place, open| {
            assert_eq!(open.connection.source, connection().source);
            seen.push(place);
        });
    }
    assert_eq!(seen, [0, 2, 3, 4]);
    assert_eq!(look_at_open(usize::MAX, 2, |_, _| panic!("nothing is there")), None);
}

#[test]
fn what_policy_closes_is_told_as_that() {
    let metrics = metrics();
    let verdict = Verdict { reason: Reason::DenyRule, decided_by: None };
    let log = logged(|| {
        open(connection().arrived(verdict.clone()), &metrics).closed(&Err(RelayError::Revoked(verdict.clone())));
    });
    assert!(log.contains(" WARN access: connection closed by policy") && log.contains("reason=\"deny_rule\""), "{log}");
    assert_eq!(sample(&metrics, "sotto_connections_broken_total", "reason=\"policy\""), 1);
}

#[test]
fn a_connection_that_is_cut_has_an_end_as_well() {
    let metrics = metrics();
    let log = logged(|| drop(open(connection(), &metrics)));
    assert!(log.contains("ERROR access: connection failed") && log.contains("error=\"cut by this agent"), "{log}");
    assert_eq!(sample(&metrics, "istio_tcp_connections_closed_total", SOURCE), 1);
    assert_eq!(sample(&metrics, "sotto_connections_broken_total", "reason=\"cut\""), 1);
}

#[test]
fn what_breaks_or_fails_is_counted_by_reason() {
    let metrics = metrics();
    let log = logged(|| {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        open(connection(), &metrics).closed(&Err(RelayError::Socket(reset)));
        connection().fail(&metrics, Instant::now(), ResponseFlags::TlsFailure, &"no such identity");
        connection().fail(&metrics, Instant::now(), ResponseFlags::Deny, &"no");
    });
    assert_eq!(sample(&metrics, "sotto_connections_broken_total", "reason=\"reset\""), 1);
    assert_eq!(sample(&metrics, "istio_tcp_connections_failed_total", "response_flags=\"TLS_FAILURE\""), 1);
    let lines: Vec<_> = log.lines().collect();
    assert!(
        lines[2].starts_with("ERROR access: connection failed") && lines[2].ends_with("reason=\"tls_failure\""),
        "{log}"
    );
    assert!(lines[3].starts_with(" WARN access: connection denied") && lines[3].contains(" error=\"no\""), "{log}");
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_record() {
    const CONNECTIONS: u32 = 200_000;
    let metrics = metrics();
    let known = connection();
    let run = |what: &str| {
        for _ in 0..3 {
            let start = Instant::now();
            for _ in 0..CONNECTIONS {
                let record = Record::new(known.clone(), &metrics, start, Default::default());
                record.traffic().from_client.set(7);
                record.closed(&Ok(()));
            }
            println!("{what}: {:?} per connection and reporter", start.elapsed() / CONNECTIONS);
        }
        let copies = Instant::now();
        (0..CONNECTIONS).for_each(|_| drop(std::hint::black_box(known.clone())));
        println!("of which the copy of who talks to whom: {:?}", copies.elapsed() / CONNECTIONS);
    };
    run("without access log");
    let nowhere = tracing_subscriber::fmt().with_writer(io::sink).with_ansi(false).finish();
    let run = || tracing::subscriber::with_default(nowhere, || run("with access log"));
    let written = access::captured(log::Format::Text, run);
    println!("{} lines", written.lines().count());
}

#[tokio::test(start_paused = true)]
async fn what_the_mesh_has_dropped_is_not_kept_by_a_thread_that_has_told_of_it() {
    let metrics = metrics();
    let connection = connection();
    let pod = connection.source_workload.as_ref().map(Arc::downgrade).unwrap();
    open(connection, &metrics).closed(&Ok(()));
    assert!(pod.upgrade().is_some(), "the next connection of the pair finds its counters at once");
    let minute = std::time::Duration::from_secs(61);
    assert!(tokio::time::timeout(minute, keep_reporting(&metrics)).await.is_err(), "it goes on");
    assert!(pod.upgrade().is_none());
}
