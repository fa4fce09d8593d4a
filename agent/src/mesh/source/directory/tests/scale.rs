//! A mesh of the size that one directory is made for.

use std::fmt::Write as _;
use std::time::Instant;

use super::fixture::{Fixture, pod};

const NAMESPACES: usize = 500;
const PODS_EACH: usize = 10;

#[test]
fn five_thousand_pods_are_read_once_and_converted_often() {
    let start = Instant::now();
    let mut fixture = Fixture::new(&[]);
    for number in 0..NAMESPACES {
        let mut text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{number}, labels: {{istio.io/dataplane-mode: ambient}}}}\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: ns-{number}}}\nspec:\n  \
             clusterIP: 10.96.{}.{}\n  selector: {{app: web}}\n  ports: [{{port: 80, targetPort: http}}]\n",
            number / 250,
            number % 250 + 1
        );
        for pod in 0..PODS_EACH {
            let (a, b) = (number / 250, number % 250 + 1);
            write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: web-{pod}\n  namespace: ns-{number}\n  labels: {{app: web}}\n\
                 spec:\n  nodeName: n-{pod}\n  containers:\n  - name: web\n    ports: [{{name: http, containerPort: 8080}}]\n\
                 status: {{podIP: 10.{}.{b}.{pod}}}\n",
                a + 1
            )
            .unwrap();
        }
        fixture.write(&format!("ns-{number}.yaml"), text);
    }
    fixture.settle();
    println!("first read: {:?}", start.elapsed());
    assert_eq!(fixture.problems(), [""; 0]);
    assert_eq!(fixture.state().view.workloads().count(), NAMESPACES * PODS_EACH);

    fixture.write("extra.yaml", pod("extra", "10.200.0.1"));
    fixture.after(0);
    let start = Instant::now();
    assert!(fixture.after(80));
    println!("one changed file: {:?}", start.elapsed());
    let state = fixture.state();
    assert_eq!(state.view.workloads().count(), NAMESPACES * PODS_EACH + 1);
    let endpoints: usize = state.view.services().flat_map(|s| &s.ports).map(|port| port.endpoints.len()).sum();
    assert_eq!(endpoints, NAMESPACES * PODS_EACH);
}
