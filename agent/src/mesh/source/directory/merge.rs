//! All files to one mesh.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::mesh::source::convert::derive::endpoint_slices;
use crate::mesh::source::convert::mesh::{Mesh, Objects, Rules, mesh};
use crate::mesh::source::objects::kind::{Kind, ObjectRef};
use crate::mesh::source::problem::Problem;

use super::decode::Located;
use super::file::ManifestFile;

type Place<'a> = (&'a Arc<str>, u64);

/// The mesh that all files make together. An object that is there twice counts as the first file (by name) has it.
pub(super) fn merge(files: &BTreeMap<Arc<str>, ManifestFile>, rules: &Rules) -> Mesh {
    let mut objects = Objects::default();
    let mut places: HashMap<(Kind, &str, &str), Place<'_>> = HashMap::new();
    let mut problems: Vec<Problem> = Vec::new();
    for (name, file) in files {
        problems.extend(file.problems.iter().cloned());
        for located in &file.objects {
            match places.entry(key(located)) {
                Entry::Vacant(entry) => {
                    entry.insert((name, located.line));
                    objects.add(&located.object);
                }
                Entry::Occupied(entry) => problems.push(twice(*entry.get(), (name, located.line), located)),
            }
        }
    }
    let derived = endpoint_slices(&objects);
    objects.endpoint_slices.extend(&derived);
    let mut merged = mesh(&objects, rules);
    let by_reference = merged.problems.into_iter().map(|problem| place(problem, &places));
    problems.extend(by_reference);
    problems.sort();
    merged.problems = problems;
    merged
}

fn key(located: &Located) -> (Kind, &str, &str) {
    let (kind, metadata) = (located.object.kind(), located.object.metadata());
    let namespace = if kind.is_namespaced() { metadata.namespace_or_default() } else { "" };
    (kind, namespace, &metadata.name)
}

fn twice(first: Place<'_>, second: Place<'_>, located: &Located) -> Problem {
    Problem {
        file: Some(Arc::clone(second.0)),
        line: Some(second.1),
        object: Some(located.object.reference()),
        message: format!("is in {}:{} too, and that one counts", first.0, first.1),
        ..Problem::default()
    }
}

/// Adds file and line to a problem of the conversion.
fn place(problem: Problem, places: &HashMap<(Kind, &str, &str), Place<'_>>) -> Problem {
    let found = problem.object.as_ref().and_then(|ObjectRef { kind, namespace, name }| {
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        places.get(&(kind, namespace.as_str(), name.as_str()))
    });
    match found {
        Some((file, line)) => Problem { file: Some(Arc::clone(file)), line: Some(*line), ..problem },
        None => problem,
    }
}
