//! Problems in the log.

use std::collections::BTreeSet;

use super::problem::Problem;

/// Logs each problem once when it comes and once when it goes.
pub(super) fn report(before: &[Problem], after: &[Problem]) {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    for problem in after.difference(&before) {
        tracing::warn!(%problem, "an object of the mesh is wrong");
    }
    for problem in before.difference(&after) {
        tracing::info!(%problem, "a problem with the mesh's objects is resolved");
    }
}
