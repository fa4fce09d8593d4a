//! A file's text, cut into its YAML documents.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// How many lines are before it.
    pub(super) lines_before: u64,
    pub(super) text: &'a str,
}

/// The documents of a text that hold anything. `---` and `...` at the start of a line cannot be inside a value (YAML 1.2,
/// 9.1.2), so that each document is read by itself and an error in one does not reach the next.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let (mut offset, mut line_number) = (0, 0);
    for line in text.split_inclusive('\n') {
        let (begins, ends) = (is_marker(line, "---"), is_marker(line, "..."));
        if begins || ends {
            documents.push(Document { lines_before, text: &text[start..offset] });
            // The rest of a line with `---` may already belong to the document.
            (start, lines_before) = if begins { (offset, line_number) } else { (offset + line.len(), line_number + 1) };
        }
        offset += line.len();
        line_number += 1;
    }
    documents.push(Document { lines_before, text: &text[start..] });
    documents.retain(|document| !is_blank(document.text));
    documents
}

impl Document<'_> {
    /// The first line that holds anything, counted from 1 in the document.
    pub(super) fn first_line(&self) -> u64 {
        let blank = self.text.lines().take_while(|line| is_blank(line)).count();
        u64::try_from(blank).unwrap_or(0) + 1
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there are only comments, directives and markers.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let rest = if is_marker(line, "---") { &line[3..] } else { line };
        let rest = rest.trim_start();
        rest.is_empty() || rest.starts_with('#') || line.starts_with('%')
    })
}
