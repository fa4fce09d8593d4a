//! Golden tests: directories of manifests in `tests/golden/<case>/`, and what the mesh makes of each in `expected.txt`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sotto golden` writes what is there; the diff is for review.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::model::enrolment::Enrolment;
use crate::model::identity::TrustDomain;
use crate::model::service::Service;
use crate::model::workload::Workload;

use super::directory::manifests::{Config, Manifests};
use super::state::MeshState;

#[test]
fn manifests_become_the_mesh_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    let mut checked = 0;
    for case in cases.iter().filter(|case| case.is_dir()) {
        let config = Config {
            directory: case.clone(),
            trust_domain: TrustDomain::default(),
            root_namespace: "istio-system".into(),
        };
        let got = dump(&Manifests::load(config).unwrap().state());
        let file = case.join("expected.txt");
        if update {
            fs::write(&file, &got).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if got != expected {
            write!(wrong, "{}:\n--- expected\n{expected}\n--- got\n{got}\n", file.display()).unwrap();
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(checked >= 8, "golden cases are missing in {}", root.display());
}

/// A state as text, in an order that does not depend on anything but the state.
pub(super) fn dump(state: &MeshState) -> String {
    let mut out = String::new();
    let mut workloads: Vec<_> = state.view.workloads().collect();
    workloads.sort_by(|a, b| a.pod.cmp(&b.pod));
    for workload in workloads {
        dump_workload(workload, &mut out).unwrap();
    }
    let mut services: Vec<_> = state.view.services().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    for service in services {
        dump_service(service, &mut out).unwrap();
    }
    for problem in &state.problems {
        writeln!(out, "problem {problem}").unwrap();
    }
    out
}

fn dump_workload(workload: &Workload, out: &mut String) -> std::fmt::Result {
    let ips: Vec<String> = workload.ips.iter().map(ToString::to_string).collect();
    writeln!(out, "pod {} uid={} ips=[{}]", workload.pod, workload.uid, ips.join(" "))?;
    match workload.enrolment {
        Enrolment::Enrolled => writeln!(out, "  enrolled")?,
        Enrolment::Outside(reason) => writeln!(out, "  outside: {reason}")?,
    }
    writeln!(out, "  {} owner={:?}/{}", workload.identity, workload.owner.kind, workload.owner.name)?;
    let canonical = (&workload.canonical_name, &workload.canonical_revision);
    writeln!(out, "  canonical={}@{} app={} version={}", canonical.0, canonical.1, workload.app, workload.version)?;
    let locality = &workload.locality;
    writeln!(out, "  node={} region={} zone={}", workload.node, locality.region, locality.zone)?;
    if let Some(netns) = &workload.netns {
        writeln!(out, "  netns={}", netns.display())?;
    }
    Ok(())
}

fn dump_service(service: &Service, out: &mut String) -> std::fmt::Result {
    let vips: Vec<String> = service.vips.iter().map(ToString::to_string).collect();
    writeln!(out, "service {} vips=[{}]", service.name, vips.join(" "))?;
    for port in &service.ports {
        let endpoints: Vec<String> = port
            .endpoints
            .iter()
            .map(|endpoint| format!("{}{}", endpoint.address, if endpoint.ready { "" } else { " (not ready)" }))
            .collect();
        writeln!(out, "  port {} {:?} -> [{}]", port.port, port.name, endpoints.join(", "))?;
    }
    Ok(())
}
