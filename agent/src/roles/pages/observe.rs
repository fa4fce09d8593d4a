//! Figures that are read where they are kept, whenever somebody asks for the metrics.

use std::sync::Arc;

use super::routes::Shown;
use crate::telemetry::metrics::StateFigures;

/// Brings the gauges up to date.
pub(super) fn observe(shown: &Shown) {
    let mesh = Arc::clone(&shown.mesh.borrow());
    let (view, policies) = (&mesh.view, mesh.view.policies());
    shown.metrics.state.set(&StateFigures {
        version: mesh.version,
        made_at: mesh.made_at,
        loaded: mesh.loaded,
        problems: mesh.problems.len(),
        workloads: view.workloads().count(),
        services: view.services().count(),
        policies: policies.peer_authentications().count() + policies.authorization_policies().count(),
    });
    shown.metrics.certificates.set(&shown.certificates.figures());
}
