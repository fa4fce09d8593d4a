//! The directory of manifests, as people write it.

use std::fs;
use std::time::{Duration, Instant};

use harness::Marker;

use crate::fixture::Pair;

/// How soon a change on disk takes effect.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn changes_take_effect_within_a_second() {
    let Some(pair) = Pair::plain("changes_take_effect_within_a_second") else { return };
    let took = |change: &dyn Fn()| {
        let start = Instant::now();
        change();
        start.elapsed()
    };
    let (mut joining, mut leaving): (Vec<_>, Vec<_>) =
        (0..5).map(|_| (took(&|| pair.enrol()), took(&|| pair.leave()))).unzip();
    joining.sort();
    leaving.sort();
    // The middle one: a machine may be busy with something else now and then.
    assert!(joining[2] < SOON && leaving[2] < SOON, "joining took {joining:?}, leaving {leaving:?}");
}

#[test]
fn a_file_that_is_wrong_is_named_and_the_last_good_state_stays() {
    let Some(pair) = Pair::enrolled("a_file_that_is_wrong_is_named_and_the_last_good_state_stays") else { return };
    pair.server.serve_echo(8080);
    let file = pair.server.manifest_file();
    let good = fs::read_to_string(pair.mesh.manifests().join(&file)).unwrap();
    let line = good.lines().position(|line| line.trim().starts_with("podIP:")).expect("a line with the address");
    let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
    lines[line] = lines[line].replace(&pair.server.ip().to_string(), "10.201.2.two");
    let (bad, line) = (lines.join("\n"), line + 1);
    assert!(bad.contains("10.201.2.two"));
    pair.mesh.write_manifest(&file, &bad);
    for agent in [&pair.agent_a, &pair.agent_b] {
        agent.wait_log("file, line and field", |text| {
            let place = [format!(":{line}"), format!("line {line}"), format!("line={line}")];
            text.contains(&file) && text.contains("podIP") && place.iter().any(|place| text.contains(place))
        });
    }
    let secret = Marker::new();
    let capture = pair.mesh.capture();
    pair.client.connect(pair.server.addr(8080)).exchange(&secret);
    capture.stop().assert_tls13();

    // Other files are still followed, and the mended one is taken.
    pair.client.opt_out();
    pair.mesh.wait_left(&[&pair.client]);
    pair.mesh.write_manifest(&file, &good);
    pair.server.opt_out();
    pair.mesh.wait_left(&[&pair.server]);
}

#[test]
fn files_that_are_no_yaml_at_all_harm_nobody() {
    let Some(pair) = Pair::enrolled("files_that_are_no_yaml_at_all_harm_nobody") else { return };
    pair.server.serve_echo(8080);
    let garbage = [
        ("tabs.yaml", "\t\t{{{"),
        ("nothing.yaml", ""),
        ("list.json", "[1, 2"),
        ("notes.txt", "buy milk"),
        (".swp.yaml", "\0\0"),
    ];
    for (file, text) in garbage {
        pair.mesh.write_manifest(file, text);
    }
    pair.mesh.write_manifest("deep.yaml", &"[".repeat(100_000));
    for agent in [&pair.agent_a, &pair.agent_b] {
        for file in ["tabs.yaml", "list.json", "deep.yaml"] {
            agent.wait_log(file, |text| text.contains(file));
        }
    }
    let capture = pair.mesh.capture();
    pair.client.connect(pair.server.addr(8080)).exchange("hello");
    capture.stop().assert_tls13();
}

#[test]
fn several_objects_in_one_file_json_and_writing_in_place_are_fine() {
    let Some(pair) = Pair::plain("several_objects_in_one_file_json_and_writing_in_place_are_fine") else { return };
    // JSON, in place: the agents may see it half written.
    let namespace = pair.mesh.manifests().join("namespace-demo.yaml");
    fs::remove_file(&namespace).unwrap();
    let labelled = |mode: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"demo","labels":{{"istio.io/dataplane-mode":"{mode}"}}}}}}"#
        )
    };
    let json = pair.mesh.manifests().join("demo.json");
    fs::write(&json, labelled("ambient")).unwrap();
    pair.mesh.wait_enrolled(&[&pair.client, &pair.server]);
    fs::write(&json, labelled("none")).unwrap();
    pair.mesh.wait_left(&[&pair.client, &pair.server]);

    // Several documents.
    fs::remove_file(&json).unwrap();
    let [client, server] = [&pair.client, &pair.server].map(|pod| {
        pod.delete_manifest();
        pod.object().to_string()
    });
    pair.mesh.write_manifest(
        "all.yaml",
        &format!("---\n{}\n---\n# empty\n---\n{client}\n---\n{server}\n", labelled("ambient")),
    );
    pair.mesh.wait_enrolled(&[&pair.client, &pair.server]);
}
