//! Files that are being written: nobody may see a half of one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;

use super::fixture::{Fixture, pod};

#[test]
fn no_prefix_of_a_file_ever_takes_a_pod_out_of_the_mesh() {
    let whole = format!("{}---\n{}---\n{}", pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3"));
    let mut fixture = Fixture::new(&[("pods.yaml", &whole)]);
    let all_there = |fixture: &Fixture, length: usize| {
        for name in ["a", "b", "c"] {
            let pod = fixture.pod(name).unwrap_or_else(|| panic!("{name} is gone after {length} bytes"));
            assert!(pod.is_enrolled() && pod.ips.len() == 1, "{name} after {length} bytes: {pod:?}");
        }
    };
    for length in 0..whole.len() {
        fixture.write("pods.yaml", &whole[..length]);
        for wait in [0, 100, 50] {
            fixture.after(wait);
            all_there(&fixture, length);
        }
        fixture.write("pods.yaml", &whole);
        for wait in [0, 100, 150] {
            fixture.after(wait);
            all_there(&fixture, length);
        }
    }
    assert_eq!(fixture.problems(), [""; 0]);
}

#[test]
fn a_file_written_slowly_counts_once_it_is_whole() {
    let mut fixture = Fixture::new(&[("pods.yaml", &pod("a", "10.0.0.1"))]);
    let before = fixture.state().version;
    let text = format!("{}---\n{}---\n{}", pod("a", "10.0.0.9"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3"));
    let mut file = OpenOptions::new().write(true).truncate(true).open(fixture.path("pods.yaml")).unwrap();
    for chunk in text.as_bytes().chunks(40) {
        file.write_all(chunk).unwrap();
        assert!(!fixture.after(90), "a half-written file was taken");
    }
    assert!(!fixture.after(199));
    assert!(fixture.after(1));
    assert_eq!(fixture.pods(), ["a", "b", "c"]);
    assert_eq!(fixture.pod("a").unwrap().ips, ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(fixture.state().version, before + 1);
}

#[test]
fn a_new_file_counts_sooner_than_a_changed_one() {
    let mut fixture = Fixture::new(&[]);
    fixture.write("pods.yaml", pod("a", "10.0.0.1"));
    assert!(!fixture.after(0));
    assert!(!fixture.after(79));
    assert!(fixture.after(1));
    assert_eq!(fixture.pods(), ["a"]);
}

#[test]
fn a_rename_over_replaces_a_file() {
    let mut fixture = Fixture::new(&[("pods.yaml", &pod("a", "10.0.0.1"))]);
    fixture.replace("pods.yaml", &pod("b", "10.0.0.2"));
    assert!(!fixture.after(0));
    assert_eq!(fixture.pods(), ["a"]);
    fixture.settle();
    assert_eq!(fixture.pods(), ["b"]);
}

#[test]
fn a_deleted_file_takes_its_objects_along_but_not_at_once() {
    let mut fixture = Fixture::new(&[("a.yaml", &pod("a", "10.0.0.1")), ("b.yaml", &pod("b", "10.0.0.2"))]);
    // As editors do: move away, write anew.
    fs::remove_file(fixture.path("a.yaml")).unwrap();
    assert!(!fixture.after(0));
    assert!(!fixture.after(150));
    fixture.write("a.yaml", pod("a", "10.0.0.1"));
    assert!(!fixture.after(0));
    assert!(!fixture.after(500), "the same content is no news");
    assert_eq!(fixture.pods(), ["a", "b"]);

    fs::remove_file(fixture.path("a.yaml")).unwrap();
    fixture.settle();
    assert_eq!(fixture.pods(), ["b"]);
    fixture.write("a.yaml", pod("a", "10.0.0.3"));
    fixture.settle();
    assert_eq!(fixture.pods(), ["a", "b"]);
}

#[test]
fn a_swapped_symbolic_link_swaps_all_files_behind_it() {
    let mut fixture = Fixture::new(&[]);
    let volume = |name: &str, a: &str, b: &str| {
        fs::create_dir(fixture.path(name)).unwrap();
        fs::write(fixture.path(name).join("a.yaml"), pod(a, "10.0.0.1")).unwrap();
        fs::write(fixture.path(name).join("b.yaml"), pod(b, "10.0.0.2")).unwrap();
    };
    volume("..1", "a1", "b1");
    volume("..2", "a2", "b2");
    symlink("..1", fixture.path("..data")).unwrap();
    symlink("..data/a.yaml", fixture.path("a.yaml")).unwrap();
    symlink("..data/b.yaml", fixture.path("b.yaml")).unwrap();
    fixture.settle();
    assert_eq!(fixture.pods(), ["a1", "b1"]);

    symlink("..2", fixture.path("..data_tmp")).unwrap();
    fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
    fixture.settle();
    assert_eq!(fixture.pods(), ["a2", "b2"]);

    fs::remove_file(fixture.path("..data")).unwrap();
    fixture.settle();
    assert_eq!(fixture.pods(), ["a2", "b2"], "links that lead nowhere are no deletion");
    assert_eq!(fixture.problems().len(), 2, "{:?}", fixture.problems());
}

#[test]
fn what_changes_nothing_is_not_published() {
    let text = pod("a", "10.0.0.1");
    let mut fixture = Fixture::new(&[("pods.yaml", &text)]);
    let before = fixture.state();
    fixture.write("pods.yaml", format!("# A comment.\n{text}"));
    fixture.write("notes.txt", "not a manifest");
    fixture.write(".hidden.yaml", "not: [a manifest");
    fixture.settle();
    assert_eq!(fixture.state().version, before.version);
    assert!(std::sync::Arc::ptr_eq(&fixture.state().view, &before.view));
}
