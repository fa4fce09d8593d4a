//! Series: who is counted together, what goes, and what a connection costs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use super::table::*;
use crate::model::enrolment::Enrolment;
use crate::model::identity::{Identity, TrustDomain};
use crate::model::service::Service;
use crate::model::workload::{Locality, ObjectName, Owner, OwnerKind, Workload};
use crate::telemetry::labels::{Parties, Reporter, ResponseFlags, SecurityPolicy};

fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        pod: ObjectName::new("demo", name),
        uid: name.into(),
        ips: Vec::new(),
        node: "a".into(),
        identity: Identity::new(TrustDomain::default(), "demo", name).unwrap(),
        owner: Owner { kind: OwnerKind::Deployment, name: name.into() },
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        app: name.into(),
        version: "v1".into(),
        locality: Locality { region: "here".into(), zone: "here-1".into() },
        labels: Default::default(),
        host_network: false,
        enrolment: Enrolment::Enrolled,
        netns: None,
    })
}

fn parties<'a>(source: &'a Arc<Workload>, destination: &'a Arc<Workload>, service: &'a Arc<Service>) -> Parties<'a> {
    Parties {
        reporter: Reporter::Source,
        source: Some(source),
        source_identity: Some(&source.identity),
        destination: Some(destination),
        destination_identity: Some(&destination.identity),
        service: Some(service),
        security: SecurityPolicy::MutualTls,
    }
}

fn service() -> Arc<Service> {
    Arc::new(Service { name: ObjectName::new("demo", "web"), vips: Vec::new(), ports: Vec::new() })
}

fn opened(series: &ConnectionSeries) -> u64 {
    series.0.lock().values().map(|series| series.opened.load(Ordering::Relaxed)).sum()
}

#[test]
fn the_same_parties_are_counted_in_one_place_wherever_they_are_in_memory() {
    let series = ConnectionSeries::new("c", Limits::default());
    let (a, b, web) = (workload("a"), workload("b"), service());
    for _ in 0..3 {
        series.of(&parties(&a, &b, &web), ResponseFlags::None).opened();
    }
    // As after a change of the mesh state.
    let again = workload("a");
    series.of(&parties(&again, &b, &web), ResponseFlags::None).opened();
    assert_eq!((series.len(), opened(&series)), (1, 4));
    let stranger = Identity::new(TrustDomain::default(), "demo", "stranger").unwrap();
    let claimed = Parties { source_identity: Some(&stranger), ..parties(&a, &b, &web) };
    series.of(&claimed, ResponseFlags::None).opened();
    series.of(&parties(&a, &b, &web), ResponseFlags::Deny).failed();
    series.of(&parties(&b, &a, &web), ResponseFlags::None).opened();
    assert_eq!(series.len(), 4, "another identity, another outcome and the other way round are others");
}

#[test]
fn a_series_goes_when_it_has_been_idle_but_not_while_it_is_used() {
    let series = ConnectionSeries::new("c", Limits { idle: Duration::from_secs(600), ..Limits::default() });
    let (a, b, web) = (workload("a"), workload("b"), service());
    let later = |seconds| series.0.start + Duration::from_secs(seconds);
    let long = series.of(&parties(&a, &b, &web), ResponseFlags::None);
    long.opened();
    series.of(&parties(&b, &a, &web), ResponseFlags::None).opened();
    series.expire(later(590));
    assert_eq!(series.len(), 2);
    series.expire(later(700));
    assert_eq!(series.len(), 1, "the one with a connection stays");
    drop(long);
    series.expire(later(1_200));
    assert_eq!(series.len(), 1);
    series.expire(later(1_400));
    assert!(series.is_empty());
    // This thread's cache still knows the old one; what is counted from now on must show all the same.
    series.of(&parties(&a, &b, &web), ResponseFlags::None).opened();
    assert_eq!((series.len(), opened(&series)), (1, 1));
}

#[test]
fn past_the_limit_all_others_are_counted_together() {
    let series = ConnectionSeries::new("c", Limits { series: 3, ..Limits::default() });
    let (b, web) = (workload("b"), service());
    for number in 0..10 {
        let client = workload(&format!("client-{number}"));
        series.of(&parties(&client, &b, &web), ResponseFlags::None).opened();
    }
    assert_eq!((series.len(), opened(&series)), (4, 10));
    assert_eq!(series.0.overflowed.get(), 7);
    let overflow = series.0.lock().values().find(|s| format!("{:?}", s.labels).contains("overflow")).cloned().unwrap();
    assert_eq!(overflow.opened.load(Ordering::Relaxed), 7);
}

#[test]
fn with_no_series_at_all_nothing_is_counted() {
    let series = ConnectionSeries::new("c", Limits { series: 0, ..Limits::default() });
    let (a, b, web) = (workload("a"), workload("b"), service());
    let counted = series.of(&parties(&a, &b, &web), ResponseFlags::None);
    counted.opened();
    counted.bytes(1, 2);
    assert!(series.is_empty());
}

#[test]
fn threads_count_together_and_nothing_is_lost_while_series_expire() {
    const THREADS: usize = 4;
    const CONNECTIONS: usize = 2_000;
    let series = ConnectionSeries::new("c", Limits { idle: Duration::ZERO, ..Limits::default() });
    let (a, b, web) = (workload("a"), workload("b"), service());
    let (start, lost) = (Barrier::new(THREADS + 1), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..CONNECTIONS {
                    let counted = series.of(&parties(&a, &b, &web), ResponseFlags::None);
                    counted.opened();
                    // While somebody counts in it, a series is what a scrape shows.
                    let shown =
                        series.0.lock().values().any(|shown| Arc::ptr_eq(shown, &counted.0.as_ref().unwrap().series));
                    lost.fetch_add(u64::from(!shown), Ordering::Relaxed);
                }
            });
        }
        start.wait();
        for second in 1..500 {
            series.expire(series.0.start + Duration::from_secs(second * SWEEP_EVERY));
        }
    });
    assert_eq!(lost.load(Ordering::Relaxed), 0);
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_connections_counters() {
    const CONNECTIONS: u32 = 1_000_000;
    let series = ConnectionSeries::new("c", Limits::default());
    let (a, b, web) = (workload("client-deployment"), workload("server-deployment"), service());
    for _ in 0..3 {
        let start = Instant::now();
        for _ in 0..CONNECTIONS {
            let counted = series.of(&parties(&a, &b, &web), ResponseFlags::None);
            counted.opened();
            counted.bytes(7, 7);
            counted.closed();
        }
        println!("{:?} per connection and reporter", start.elapsed() / CONNECTIONS);
    }
}
