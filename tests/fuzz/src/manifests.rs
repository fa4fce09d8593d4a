//! Manifests, from their text to the mesh.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sotto::mesh::source::convert::derive::endpoint_slices;
use sotto::mesh::source::convert::mesh::{Mesh, Objects, Rules, mesh};
use sotto::mesh::source::directory::decode::{Decoded, Located, decode};

use crate::target::files;

pub(crate) const WORDS: &[&str] = &[
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\u{feff}",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "!!str ",
    "? ",
    "- ",
    ": ",
    "|\n",
    ">-\n",
    "\\u0000",
    "apiVersion: v1\n",
    "discovery.k8s.io/v1",
    "kind: Pod\n",
    "kind: List\n",
    "kind: Service\n",
    "kind: EndpointSlice\n",
    "kind: Namespace\n",
    "kind: Node\n",
    "kind: PeerAuthentication\n",
    "kind: AuthorizationPolicy\n",
    "security.istio.io/v1",
    "mtls: {mode: STRICT}\n",
    "portLevelMtls:\n",
    "selector: {matchLabels: {}}\n",
    "action: DENY\n",
    "rules:\n",
    "from: [{source: {principals: ['*']}}]\n",
    "notIpBlocks: [10.0.0.0/8]\n",
    "to: [{operation: {ports: ['80']}}]\n",
    "when: [{key: source.ip, values: ['::/0']}]\n",
    "items:\n",
    "metadata:\n",
    "namespace: ",
    "name: ",
    "spec:\n",
    "status:\n",
    "podIPs:\n",
    "ports:\n",
    "targetPort: ",
    "clusterIPs:\n",
    "endpoints:\n",
    "addresses:\n",
    "sotto.dev/netns: ",
    "\"\\u001b\"",
    "{",
    "}",
    "[",
    "]",
    "null",
    "~",
];

/// Everything of a problem is shortened, but a path has as many steps as the text nests.
const LONGEST_PROBLEM: usize = 20_000;

pub(crate) fn manifests(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rules = Rules { netns_annotation: true, ..Rules::default() };
    let decoded = decode(&Arc::from("a.yaml"), text, &rules);
    check_problems(&decoded, text);
    let mut unique = BTreeMap::new();
    for located in &decoded.objects {
        unique.entry(located.object.reference()).or_insert(located);
    }
    let forwards = convert(unique.values().copied(), &rules);
    let backwards = convert(unique.values().rev().copied(), &rules);
    assert_eq!(described(&forwards), described(&backwards), "the order of the objects matters");
    for problem in &forwards.problems {
        one_line(&problem.to_string());
    }
}

fn check_problems(decoded: &Decoded, text: &str) {
    let lines = text.split('\n').count() as u64;
    assert!(decoded.problems.len() <= 101, "{} problems", decoded.problems.len());
    for problem in &decoded.problems {
        one_line(&problem.to_string());
        assert!(problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{problem}: of {lines} lines");
    }
    for Located { object, line } in &decoded.objects {
        assert!((1..=lines).contains(line), "{:?} in line {line} of {lines}", object.reference());
    }
}

fn one_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?} is not one line");
    assert!(text.len() <= LONGEST_PROBLEM, "{} bytes of problem", text.len());
}

fn convert<'a>(located: impl Iterator<Item = &'a Located>, rules: &Rules) -> Mesh {
    let mut objects = Objects::default();
    located.for_each(|located| objects.add(&located.object));
    let derived = endpoint_slices(&objects);
    objects.endpoint_slices.extend(&derived);
    mesh(&objects, rules)
}

/// What of a mesh must not depend on the order in which objects came.
fn described(mesh: &Mesh) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut workloads: Vec<_> = mesh.view.workloads().map(|workload| format!("{workload:?}")).collect();
    let mut services: Vec<_> = mesh.view.services().map(|service| format!("{service:?}")).collect();
    let mut problems: Vec<_> = mesh.problems.iter().map(ToString::to_string).collect();
    workloads.sort();
    services.sort();
    problems.sort();
    (workloads, services, problems)
}

/// The inputs of the golden tests.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden");
    let mut cases: Vec<_> =
        std::fs::read_dir(golden).expect("golden tests").filter_map(|case| Some(case.ok()?.path())).collect();
    cases.sort();
    cases.iter().flat_map(|case| files(case)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold_objects_and_problems() {
        let decoded: Vec<_> = seeds()
            .iter()
            .filter_map(|seed| std::str::from_utf8(seed).ok())
            .map(|text| decode(&Arc::from("a.yaml"), text, &Rules::default()))
            .collect();
        assert!(decoded.iter().map(|decoded| decoded.objects.len()).sum::<usize>() > 20);
        assert!(decoded.iter().map(|decoded| decoded.problems.len()).sum::<usize>() > 10);
    }
}
