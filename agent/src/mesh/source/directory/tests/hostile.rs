//! Texts made to hurt: every one ends as a problem, in bounded time and memory.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::fixture::{Fixture, pod};
use super::text::decoded;

fn only_problem(text: &str) -> String {
    let decoded = decoded(text);
    assert_eq!(decoded.objects.len(), 0);
    assert_eq!(decoded.problems.len(), 1, "{:?}", decoded.problems);
    let problem = decoded.problems[0].to_string();
    assert!(problem.len() < 500 && !problem.contains('\n'), "{problem}");
    problem
}

#[test]
fn deep_nesting_stops_at_a_limit() {
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: ";
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        only_problem(&format!("{head}\n  {text}"));
    }
}

#[test]
fn aliases_cannot_multiply_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
    }
    only_problem(&text);
}

#[test]
fn long_and_odd_values_do_not_reach_the_log_as_they_are() {
    let long = "x".repeat(1 << 20);
    only_problem(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: \"{long}\"}}\n"));
    only_problem(&format!("apiVersion: \"{long}\"\nkind: Pod\nmetadata: {{name: a}}\n"));
    let odd = only_problem("apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\\nb\\e[31m\"}\n");
    assert!(!odd.contains('\u{1b}'), "{odd}");
    only_problem(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, labels: {{\"{}\": [1]}}}}\n",
        "k".repeat(900)
    ));
}

#[test]
fn many_problems_are_counted_not_listed() {
    let decoded = decoded(&"---\nkind: Pod\n".repeat(1_000));
    assert_eq!(decoded.problems.len(), 101);
    assert_eq!(decoded.problems[100].to_string(), "f.yaml: 900 more problems in this file");
}

#[test]
fn a_list_with_many_bad_items_is_given_up() {
    let item = "- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: 3}\n";
    let decoded = decoded(&format!("apiVersion: v1\nkind: List\nitems:\n{}", item.repeat(1_000)));
    let last = decoded.problems.last().unwrap().to_string();
    assert_eq!(last, "f.yaml:3: items: more than 10 bad items: nothing of this List is read");
    assert_eq!((decoded.objects.len(), decoded.problems.len()), (0, 12));
}

#[test]
fn the_time_for_faults_does_not_grow_with_their_square() {
    let item = "- {apiVersion: v1, kind: Pod, metadata: {name: A}}\n";
    let started = Instant::now();
    let decoded = decoded(&format!("apiVersion: v1\nkind: List\nitems:\n{}", item.repeat(20_000)));
    assert_eq!(decoded.problems.len(), 101);
    assert_eq!(decoded.problems[99].line, Some(103));
    // One pass over the text for each fault would take most of an hour.
    assert!(started.elapsed() < Duration::from_secs(100), "{:?}", started.elapsed());
}

#[test]
fn prefixes_of_anything_never_panic() {
    let text =
        format!("{}---\napiVersion: v1\nkind: List\nitems:\n- {{\"kind\": Pod}}\n- &a [*a]\n", pod("a", "10.0.0.1"));
    for length in 0..=text.len() {
        decoded(&text[..length]);
        decoded(&text[length..]);
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let mut fixture = Fixture::new(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    File::create(fixture.path("a.yaml")).unwrap().set_len((8 << 20) + 1).unwrap();
    fixture.settle();
    let problem = "a.yaml: is larger than 8 MiB: split it into several files (what was there before keeps serving)";
    assert_eq!(fixture.problems(), [problem]);
    assert_eq!(fixture.pods(), ["a"]);
}

#[test]
fn a_name_that_is_no_regular_file_is_reported() {
    let mut fixture = Fixture::new(&[]);
    let _socket = UnixListener::bind(fixture.path("socket.yaml")).unwrap();
    std::fs::create_dir(fixture.path("directory.json")).unwrap();
    fixture.write("two\nlines.yaml", "");
    fixture.settle();
    let expected = [
        "directory.json: is not a regular file",
        "socket.yaml: is not a regular file",
        "two\\nlines.yaml: its name is not plain text: rename it",
    ];
    assert_eq!(fixture.problems(), expected);
}

#[test]
fn more_files_than_expected_change_nothing() {
    let mut fixture = Fixture::new(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    for number in 0..4096 {
        File::create(fixture.path(&format!("x{number}.yaml"))).unwrap();
    }
    std::fs::remove_file(fixture.path("a.yaml")).unwrap();
    File::create(fixture.path("y.yaml")).unwrap();
    fixture.settle();
    assert_eq!(fixture.pods(), ["a"]);
    assert!(fixture.problems()[0].contains("more than 4096 manifests"), "{:?}", fixture.problems());
}
