//! What serves while something is wrong.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::mesh::source::directory::manifests::Manifests;

use super::fixture::{Fixture, config, pod};

#[test]
fn a_bad_version_changes_nothing_until_it_is_mended() {
    let (a, b) = (pod("a", "10.0.0.1"), pod("b", "10.0.0.2"));
    let mut fixture = Fixture::new(&[("a.yaml", &a), ("b.yaml", &b)]);
    let view = Arc::clone(&fixture.state().view);

    fixture.write("a.yaml", "kind: \"Pod");
    fixture.settle();
    assert_eq!(fixture.problems(), ["a.yaml:1: unclosed quote (what was there before keeps serving)"]);
    assert!(Arc::ptr_eq(&view, &fixture.state().view));

    // Half of the new version is good: it is not applied by halves.
    fixture.write("a.yaml", format!("{}---\n{}", pod("c", "10.0.0.3"), pod("d", "10.0.0.400")));
    fixture.settle();
    let problem = "a.yaml:19: Pod demo/d: status.podIP: \"10.0.0.400\" is not an IP address (what was there before \
                   keeps serving)";
    assert_eq!(fixture.problems(), [problem]);
    assert_eq!(fixture.pods(), ["a", "b"]);

    // Other files go their own way.
    fixture.write("b.yaml", pod("e", "10.0.0.5"));
    fixture.settle();
    assert_eq!(fixture.pods(), ["a", "e"]);
    assert_eq!(fixture.problems(), [problem]);

    fixture.write("a.yaml", format!("{}---\n{}", pod("c", "10.0.0.3"), pod("d", "10.0.0.4")));
    fixture.settle();
    assert_eq!(fixture.pods(), ["c", "d", "e"]);
    assert_eq!(fixture.problems(), [""; 0]);
}

#[test]
fn a_file_that_serves_nothing_yet_gives_what_is_good_in_it() {
    let text = format!("{}---\n{}", pod("a", "10.0.0.1"), pod("b", "nowhere"));
    let mut fixture = Fixture::new(&[("pods.yaml", &text)]);
    assert_eq!(fixture.pods(), ["a"]);
    assert_eq!(fixture.problems(), ["pods.yaml:19: Pod demo/b: status.podIP: \"nowhere\" is not an IP address"]);
    fixture.write("pods.yaml", "---\n");
    fixture.settle();
    assert_eq!(fixture.pods(), [""; 0], "an empty file is a good file");
    fixture.write("pods.yaml", &text);
    fixture.settle();
    assert_eq!(fixture.pods(), ["a"]);
}

#[test]
fn a_deleted_bad_file_is_gone_with_its_problems() {
    let mut fixture = Fixture::new(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    fixture.write("a.yaml", "]");
    fixture.settle();
    assert_eq!((fixture.pods().len(), fixture.problems().len()), (1, 1));
    fs::remove_file(fixture.path("a.yaml")).unwrap();
    fixture.settle();
    assert_eq!((fixture.pods().len(), fixture.problems().len()), (0, 0));
}

#[test]
fn of_two_files_with_the_same_object_the_first_by_name_counts() {
    let mut fixture = Fixture::new(&[("b.yaml", &pod("a", "10.0.0.2"))]);
    fixture.write("a.yaml", pod("a", "10.0.0.1"));
    fixture.settle();
    assert_eq!(fixture.pod("a").unwrap().ips[0].to_string(), "10.0.0.1");
    assert_eq!(fixture.problems(), ["b.yaml:1: Pod demo/a: is in a.yaml:1 too, and that one counts"]);
    fs::remove_file(fixture.path("a.yaml")).unwrap();
    fixture.settle();
    assert_eq!(fixture.pod("a").unwrap().ips[0].to_string(), "10.0.0.2");
    assert_eq!(fixture.problems(), [""; 0]);
}

#[test]
fn a_directory_that_vanishes_keeps_serving_and_comes_back() {
    let mut fixture = Fixture::new(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    let away = fixture.directory().with_extension("away");
    fs::rename(fixture.directory(), &away).unwrap();
    fixture.after(0);
    fixture.after(60_000);
    assert_eq!(fixture.pods(), ["a"]);
    let problem = &fixture.problems()[0];
    assert!(problem.starts_with("the directory cannot be read: ") && problem.ends_with("keeps serving)"), "{problem}");

    fs::create_dir(fixture.directory()).unwrap();
    fixture.write("b.yaml", pod("b", "10.0.0.2"));
    fixture.settle();
    assert_eq!(fixture.pods(), ["b"]);
    assert_eq!(fixture.problems(), [""; 0]);

    fs::remove_dir_all(fixture.directory()).unwrap();
    fs::write(fixture.directory(), "not a directory").unwrap();
    fixture.settle();
    assert_eq!(fixture.pods(), ["b"]);
    assert_eq!(fixture.problems().len(), 1);
}

#[test]
fn a_start_without_a_directory_says_which() {
    let fixture = Fixture::new(&[]);
    let error = Manifests::load(config(&fixture.path("missing"))).unwrap_err().to_string();
    let expected = format!("manifests directory {}: the directory cannot be read: ", fixture.path("missing").display());
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_start_waits_for_fresh_files_and_is_loaded_then() {
    let fixture = Fixture::new(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    assert!(fixture.state().loaded);
    assert_eq!(fixture.state().version, 1);
    assert_eq!(fixture.pods(), ["a"]);
    let empty = Fixture::new(&[]);
    assert!(empty.state().loaded, "an empty directory is all there is");
}

#[test]
fn each_problem_is_logged_once_when_it_comes_and_once_when_it_goes() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut fixture = Fixture::new(&[("a.yaml", "kind: Pod\n")]);
        fixture.write("b.yaml", pod("b", "10.0.0.1"));
        fixture.settle();
        fixture.settle();
        fixture.write("a.yaml", pod("a", "10.0.0.2"));
        fixture.settle();
        fixture.settle();
    });
    let bytes = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("a.yaml:1: Pod without a name: apiVersion"), "{}", lines[0]);
    assert!(lines[1].contains("INFO") && lines[1].contains("resolved"), "{}", lines[1]);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
