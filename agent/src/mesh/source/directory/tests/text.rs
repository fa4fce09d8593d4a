//! From text to objects: documents, lines, fields.

use std::sync::Arc;

use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::directory::decode::{Decoded, decode};
use crate::mesh::source::directory::documents::documents;
use crate::mesh::source::directory::locate;
use crate::mesh::source::field::FieldPath;

pub(super) fn decoded(text: &str) -> Decoded {
    decode(&Arc::from("f.yaml"), text, &Rules { netns_annotation: true, ..Rules::default() })
}

fn check_documents(text: &str, expected: &[(u64, &str)]) {
    let found: Vec<_> = documents(text).iter().map(|document| (document.lines_before, document.text)).collect();
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn a_file_is_cut_at_its_markers() {
    check_documents("", &[]);
    check_documents("a: b", &[(0, "a: b")]);
    check_documents("a: 1\n---\nb: 2\n", &[(0, "a: 1\n"), (1, "---\nb: 2\n")]);
    check_documents("---\na: 1\n...\nb: 2\n---\n", &[(0, "---\na: 1\n"), (3, "b: 2\n")]);
    check_documents("# c\n\n---\n---\n--- # c\n", &[]);
    check_documents("%YAML 1.2\n---\na: 1\n", &[(1, "---\na: 1\n")]);
    check_documents("--- {a: 1}\n", &[(0, "--- {a: 1}\n")]);
    check_documents("a: 1\r\n---\r\nb: 2", &[(0, "a: 1\r\n"), (1, "---\r\nb: 2")]);
    check_documents("a: |\n  ---\n ---\n---x: 1\n", &[(0, "a: |\n  ---\n ---\n---x: 1\n")]);
}

#[test]
fn an_object_knows_its_first_line() {
    let text = "# a comment\n\n---\n\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n\
                - apiVersion: v1\n  kind: Pod\n  metadata: {name: b}\n-\n  apiVersion: v1\n  kind: Pod\n  metadata: {name: c}\n";
    let lines: Vec<u64> = decoded(text).objects.iter().map(|located| located.line).collect();
    assert_eq!(lines, [5, 12, 16]);
}

#[test]
fn a_field_is_found_or_else_the_innermost_that_holds_it() {
    let text =
        "a: 1\nspec:\n  # comment\n  ports:\n  - port: 80\n  - name: x\n    port:\n      90\n    t: {a: [1,\n   2]}\n";
    let check = |field: FieldPath, expected: u64| {
        assert_eq!(locate::line(text, &field), Some(expected), "{field}");
    };
    check(FieldPath::default(), 1);
    check(FieldPath::of("a"), 1);
    check(FieldPath::of("spec.ports"), 4);
    check(FieldPath::of("spec.ports").index(0), 5);
    check(FieldPath::of("spec.ports").index(1).key("port"), 7);
    check(FieldPath::of("spec.ports").index(1).key("t").key("a").index(1), 10);
    check(FieldPath::of("spec.ports").index(1).key("missing").key("deeper"), 6);
    check(FieldPath::of("spec.ports").index(7).key("port"), 4);
    check(FieldPath::of("missing"), 1);
    check(FieldPath::of("a.b.c"), 1);
}

#[test]
fn a_kind_that_does_not_concern_the_mesh_is_no_problem_whatever_is_in_it() {
    let text = "apiVersion: example.com/v7\nkind: Anything\nmetadata: {name: x}\nitems: 3\nspec: [1, {a: null}]\n";
    let decoded = decoded(text);
    assert_eq!((decoded.objects.len(), decoded.problems.len()), (0, 0));
}
