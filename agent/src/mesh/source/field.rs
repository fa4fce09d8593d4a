//! The path of a field inside a Kubernetes object, as operators write it: `spec.ports[0].port`.

use std::fmt;

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A key of a mapping.
    Key(String),
    /// A position in a sequence.
    Index(usize),
}

/// Where in an object a field is. Empty for the object itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The path of keys that are separated by dots: `of("spec.ports")`.
    #[must_use]
    pub fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|key| Segment::Key(key.to_owned())).collect())
    }

    /// This path, one key deeper. The key may hold dots.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(Segment::Key(key.to_owned()));
        self
    }

    /// This path, one position deeper.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Segment::Index(index));
        self
    }

    /// `other` as seen from where this path ends.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// The steps, outermost first.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether it means the object itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&serde_path_to_error::Path> for FieldPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment as Step;
        Self(
            path.iter()
                .filter_map(|step| match step {
                    Step::Seq { index } => Some(Segment::Index(*index)),
                    Step::Map { key } => Some(Segment::Key(key.clone())),
                    Step::Enum { .. } | Step::Unknown => None,
                })
                .collect(),
        )
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if !is_plain(key) => write!(f, "[{:?}]", shorten(key))?,
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// Cuts what a file says to a length that fits a log line.
#[must_use]
pub fn shorten(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What a file says, on one line and of a length that fits a log line.
#[must_use]
pub fn one_line(text: &str) -> String {
    let unsafe_in_a_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let mut line = String::new();
    for c in shorten(text).chars() {
        if unsafe_in_a_line(c) {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.len() <= 63 && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_operators_write_it() {
        assert_eq!(FieldPath::of("spec.ports").index(0).key("port").to_string(), "spec.ports[0].port");
        assert_eq!(
            FieldPath::of("metadata.annotations").key("sotto.dev/netns").to_string(),
            "metadata.annotations[\"sotto.dev/netns\"]"
        );
        assert_eq!(FieldPath::of("items").index(3).join(&FieldPath::of("spec")).to_string(), "items[3].spec");
        assert_eq!(FieldPath::default().to_string(), "");
    }

    #[test]
    fn keys_from_a_file_cannot_break_a_log_line() {
        assert_eq!(FieldPath::default().key("a\nb").to_string(), "[\"a\\nb\"]");
        assert!(FieldPath::default().key(&"x".repeat(10_000)).to_string().len() < 200);
        assert_eq!(one_line("it's\n\u{1b}[31m \u{2028}ö"), "it's\\n\\u{1b}[31m \\u{2028}ö");
        assert_eq!(one_line(&"ö".repeat(10_000)).chars().count(), 121);
    }
}
