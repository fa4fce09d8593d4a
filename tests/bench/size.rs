//! What the size of the mesh costs those who use a corner of it: the state is synthetic, the traffic is real.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::{Agent, DEADLINE, Mesh, Pod};
use serde_json::json;

use crate::carriers::contestant::{Contestant, SOTTO};
use crate::load::{http, idle};
use crate::output::{Record, say};
use crate::pair::Pair;
use crate::usage::Processes;

/// Services and workloads.
const SIZES: [(usize, usize); 4] = [(0, 0), (10, 100), (100, 1_000), (1_000, 10_000)];

/// How many pods of a node memory is told for.
const PODS: [usize; 3] = [1, 10, 100];

/// Workloads in one file: larger ones are refused.
const FILE: usize = 1_000;

/// How often new connections are made for one second, for a median.
const TIMES: u32 = 3;

/// New connections that are made one after the other, to see how long one takes.
const ONE_BY_ONE: usize = 300;

/// How long memory is waited for to settle after a start.
const SETTLING: Duration = Duration::from_secs(2);

/// Memory of a node's proxies by the number of its pods.
pub(crate) fn pods(contestant: &mut dyn Contestant, quick: bool, record: &mut Record) -> Result<()> {
    for count in PODS.into_iter().filter(|count| !quick || *count <= 10) {
        let memory =
            contestant.memory_with(count).with_context(|| format!("{} with {count} pods", contestant.name()))?;
        let Some(memory) = memory else { return Ok(()) };
        let mib = memory as f64 / f64::from(1 << 20);
        say(format_args!("{}: {mib:.1} MiB for {count} pods on a node", contestant.name()));
        record.sample(contestant.name(), 0, &format!("pods_{count}_memory_mib"), mib);
    }
    Ok(())
}

/// sotto's figures by the size of the mesh.
pub(crate) fn mesh(quick: bool, record: &mut Record) -> Result<()> {
    let mesh = Mesh::new("bench").context("this machine does not allow it, as said above")?;
    let nodes = [mesh.node("a"), mesh.node("b")];
    let pair = Pair::new(&mesh, nodes[0].pod("client").start(), nodes[1].pod("server").start())?;
    let service = mesh.service("asked").port(80, http::PORT).selector("app", "server").create();
    mesh.namespace("demo").enrol();
    mesh.namespace("crowd").enrol();
    let mut empty = 0;
    for (services, workloads) in SIZES.into_iter().filter(|(_, workloads)| !quick || *workloads <= 1_000) {
        write(&mesh, services, workloads);
        let begin = Instant::now();
        let agents: Vec<Agent> = nodes.iter().map(|node| node.agent().spawn()).collect();
        agents.iter().for_each(|agent| {
            agent.wait_ready();
            agent.wait_service(&service);
        });
        mesh.wait_enrolled(&[&pair.client, &pair.server]);
        let started = begin.elapsed();
        let memory = settled(&agents[0])?;
        if workloads == 0 {
            empty = memory;
        }
        let mut sample =
            |figure: &str, value: f64| record.sample(SOTTO, 0, &format!("size_{workloads}_{figure}"), value);
        sample("startup_ms", started.as_secs_f64() * 1e3);
        sample("memory_mib", memory as f64 / f64::from(1 << 20));
        if workloads > 0 {
            sample("bytes_per_workload", memory.saturating_sub(empty) as f64 / workloads as f64);
        }
        sample("connect_p50_us", connect(&pair.client, &service.addr(80))?);
        let mut fastest = 0.0_f64;
        for round in 0..TIMES {
            let rate = http::saturate(&pair.client, service.addr(80), false, 1)?.per_second;
            record.sample(SOTTO, round, &format!("size_{workloads}_connections_per_s"), rate);
            fastest = fastest.max(rate);
        }
        say(format_args!(
            "sotto: {services} services, {workloads} workloads: {:.1} MiB, {fastest:.0} connections/s",
            memory as f64 / f64::from(1 << 20)
        ));
        for agent in &agents {
            agent.terminate();
        }
    }
    Ok(())
}

/// The median of new connections with one answered request each, one after the other, in microseconds.
fn connect(client: &Pod, address: &std::net::SocketAddr) -> Result<f64> {
    let mut times = Vec::with_capacity(ONE_BY_ONE);
    idle::once(client, *address)?;
    for _ in 0..ONE_BY_ONE {
        let begin = Instant::now();
        idle::once(client, *address)?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}

/// Memory once it does not move any more.
fn settled(agent: &Agent) -> Result<u64> {
    let end = Instant::now() + DEADLINE;
    let mut last = Processes::memory(&[agent.pid()])?;
    loop {
        thread::sleep(SETTLING);
        let memory = Processes::memory(&[agent.pid()])?;
        if memory.abs_diff(last) < last / 100 || Instant::now() > end {
            return Ok(memory);
        }
        last = memory;
    }
}

/// Writes so many services and workloads, which are on a node that is far away.
fn write(mesh: &Mesh, services: usize, workloads: usize) {
    let mut text = String::new();
    let address = |net: u8, number: usize| {
        let [_, high, middle, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        format!("10.{}.{middle}.{low}", u32::from(net) + u32::from(high))
    };
    for number in 0..services {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": format!("service-{number}"), "namespace": "crowd" },
            "spec": {
                "clusterIP": address(102, number + 1), "selector": { "app": format!("service-{number}") },
                "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
            },
        });
        let _ = write!(text, "---\n{object}\n");
    }
    mesh.write_manifest("crowd-services.yaml", &text);
    for file in 0..workloads.div_ceil(FILE) {
        let mut text = String::new();
        for number in file * FILE..workloads.min((file + 1) * FILE) {
            let app = format!("service-{}", number % services.max(1));
            let object = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": format!("{app}-5d8f7c9b64-{number:05}"), "namespace": "crowd", "uid": format!("crowd-{number}"),
                    "labels": { "app": app, "version": "v1", "pod-template-hash": "5d8f7c9b64" },
                    "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-5d8f7c9b64"), "uid": "r", "controller": true }],
                },
                "spec": { "nodeName": format!("far-{}", number % 100), "serviceAccountName": app, "containers": [{ "name": "app", "image": "example/app" }] },
                "status": {
                    "phase": "Running", "podIP": address(110, number + 1), "podIPs": [{ "ip": address(110, number + 1) }],
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            });
            let _ = write!(text, "---\n{object}\n");
        }
        mesh.write_manifest(&format!("crowd-{file}.yaml"), &text);
    }
}
