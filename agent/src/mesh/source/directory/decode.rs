//! The text of a manifest to objects and to what is wrong with it, by line and field.

use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::mesh::source::convert::check::check;
use crate::mesh::source::convert::mesh::Rules;
use crate::mesh::source::field::{FieldPath, Segment, shorten};
use crate::mesh::source::objects::kind::{Kind, Object, ObjectRef};
use crate::mesh::source::problem::Problem;
use crate::mesh::source::shared::Shared;
use crate::mesh::source::slim::slim;

use super::documents::{Document, documents};
use super::items::Items;
use super::locate;
use super::yaml::{TextError, parse, parse_seed};

/// Problems of one file beyond this number are counted, not listed.
const MAX_PROBLEMS: usize = 100;

/// A List with more items than this that do not decode is not read: each takes a pass over the text.
const MAX_BAD_ITEMS: usize = 10;

/// What a manifest says.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The objects that are good.
    pub objects: Vec<Located>,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
}

/// An object and the line where it starts.
#[derive(Debug, PartialEq, Eq)]
pub struct Located {
    /// The object.
    pub object: Object,
    /// Its first line, counted from 1.
    pub line: u64,
}

/// Reads the text of a file: YAML documents, or JSON, or a mixture.
#[must_use]
pub fn decode(file: &Arc<str>, text: &str, rules: &Rules) -> Decoded {
    let mut decoded = Decoded::default();
    for document in documents(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        Decoder { file, rules, document, decoded: &mut decoded }.run();
    }
    let beyond = decoded.problems.len().saturating_sub(MAX_PROBLEMS);
    if beyond > 0 {
        decoded.problems.truncate(MAX_PROBLEMS);
        let message = format!("{beyond} more problems in this file");
        decoded.problems.push(Problem { file: Some(Arc::clone(file)), message, ..Problem::default() });
    }
    decoded
}

impl Decoded {
    /// Makes small what is kept of it for long.
    pub(super) fn slim(&mut self, shared: &mut Shared) {
        self.objects.iter_mut().for_each(|located| slim(&mut located.object, shared));
        self.objects.shrink_to_fit();
    }
}

/// What tells how to read a document.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<HeadMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ListHead {
    #[serde(default)]
    items: Option<Vec<Spanned<Head>>>,
}

struct Decoder<'a> {
    file: &'a Arc<str>,
    rules: &'a Rules,
    document: Document<'a>,
    decoded: &'a mut Decoded,
}

impl Decoder<'_> {
    fn run(&mut self) {
        let head = match parse::<Head>(self.document.text) {
            Ok(head) => head,
            Err(error) => return self.report(None, error),
        };
        if head.kind.as_deref() == Some("List") {
            return self.list(&head);
        }
        let Some(kind) = self.resolve(&head, &FieldPath::default()) else {
            return;
        };
        match parse_seed(self.document.text, kind) {
            Ok(object) => {
                let line = self.document.lines_before + self.document.first_line();
                self.accept(object, line, &FieldPath::default());
            }
            Err(error) => self.report(Some(head.reference(kind)), error),
        }
    }

    /// `kind: List`: every item is an object of its own, and a bad one does not spoil the others.
    fn list(&mut self, head: &Head) {
        if head.api_version.as_deref() != Some("v1") {
            let message = "must be v1 for a List".to_owned();
            return self.fault(None, &FieldPath::of("apiVersion"), message);
        }
        let items = match parse::<ListHead>(self.document.text) {
            Ok(list) => list.items.unwrap_or_default(),
            Err(error) => return self.report(None, error),
        };
        let mut kinds = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            kinds.push(self.resolve(&item.value, &FieldPath::of("items").index(index)));
        }
        for (index, object) in self.read_items(&items, &mut kinds) {
            let line = self.document.lines_before + items[index].referenced.line();
            self.accept(object, line, &FieldPath::of("items").index(index));
        }
    }

    /// Reads the items of a List. One that does not decode is reported and skipped, which takes another pass.
    fn read_items(&mut self, items: &[Spanned<Head>], kinds: &mut [Option<Kind>]) -> Vec<(usize, Object)> {
        for _ in 0..=MAX_BAD_ITEMS {
            let error = match parse_seed(self.document.text, Items { kinds }) {
                Ok(objects) => return objects,
                Err(error) => error,
            };
            let bad = match error.field.segments() {
                [_, Segment::Index(bad), ..] => *bad,
                _ => usize::MAX,
            };
            let kind = kinds.get_mut(bad).and_then(Option::take);
            self.report(kind.map(|kind| items[bad].value.reference(kind)), error);
            if kind.is_none() {
                return Vec::new();
            }
        }
        let message = format!("more than {MAX_BAD_ITEMS} bad items: nothing of this List is read");
        self.fault(None, &FieldPath::of("items"), message);
        Vec::new()
    }

    /// The kind to read an object as; none if it does not concern the mesh or cannot be told (which is reported).
    fn resolve(&mut self, head: &Head, base: &FieldPath) -> Option<Kind> {
        let Some(kind) = head.kind.as_deref().filter(|kind| !kind.is_empty()) else {
            self.fault(None, &base.clone().key("kind"), "is missing, so this is no Kubernetes object".to_owned());
            return None;
        };
        match Kind::resolve(head.api_version.as_deref().unwrap_or_default(), kind) {
            Ok(Some(kind)) => Some(kind),
            Ok(None) => {
                let lists = Kind::ALL.iter().find(|known| kind.strip_suffix("List") == Some(known.name()));
                if let Some(known) = lists {
                    self.fault(None, &base.clone().key("kind"), format!("{known}List is not read: write kind: List"));
                } else {
                    let (file, kind) = (self.file.as_ref(), shorten(kind));
                    tracing::debug!(file, ?kind, "a manifest of a kind that does not concern the mesh");
                }
                None
            }
            Err(unknown) => {
                let object = head.reference(unknown.kind);
                self.fault(Some(object), &base.clone().key("apiVersion"), unknown.to_string());
                None
            }
        }
    }

    /// Takes an object unless something is wrong with it. `base` is where it is in the document.
    fn accept(&mut self, object: Object, line: u64, base: &FieldPath) {
        let faults = check(&object, self.rules);
        if faults.is_empty() {
            self.decoded.objects.push(Located { object, line });
            return;
        }
        for fault in faults {
            self.fault(Some(object.reference()), &base.clone().join(&fault.field), fault.message);
        }
        // Where nothing better serves, the conversion makes it a policy that fails closed.
        if object.is_policy() {
            self.decoded.objects.push(Located { object, line });
        }
    }

    fn fault(&mut self, object: Option<ObjectRef>, field: &FieldPath, message: String) {
        // Each line takes a pass over the text; problems that will not be listed need none.
        let listed = self.decoded.problems.len() < MAX_PROBLEMS;
        let line = if listed { locate::line(self.document.text, field) } else { None };
        self.report(object, TextError { line, field: field.clone(), message });
    }

    fn report(&mut self, object: Option<ObjectRef>, error: TextError) {
        let line = error.line.unwrap_or_else(|| self.document.first_line());
        self.decoded.problems.push(Problem {
            file: Some(Arc::clone(self.file)),
            line: Some(self.document.lines_before + line),
            object,
            field: error.field,
            message: error.message,
            ..Problem::default()
        });
    }
}

impl Head {
    fn reference(&self, kind: Kind) -> ObjectRef {
        let metadata = self.metadata.as_ref();
        let namespace = metadata.and_then(|m| m.namespace.as_deref()).filter(|namespace| !namespace.is_empty());
        let name = metadata.and_then(|m| m.name.as_deref()).unwrap_or_default();
        ObjectRef::new(kind, namespace.unwrap_or("default"), name)
    }
}
