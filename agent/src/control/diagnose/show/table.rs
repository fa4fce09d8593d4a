//! Text in columns.

use super::style::{Style, Tone, printable};

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

/// Rows beneath a heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Cell {
    /// A text in its tone.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }

    /// What may not be there; `-` then.
    pub fn or_none(text: Option<impl Into<String>>) -> Self {
        match text.map(Into::into).filter(|text| !text.is_empty()) {
            Some(text) => text.into(),
            None => Self::new(Tone::Faint, "-"),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.heading.len(), "one cell per column");
        self.rows.push(cells.into());
    }

    /// The table, or a line that says that there is nothing.
    #[must_use]
    pub fn render(&self, style: Style, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let heading: Vec<_> = self.heading.iter().map(|text| Cell::new(Tone::Strong, *text)).collect();
        let rows: Vec<&Vec<Cell>> = std::iter::once(&heading).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| length(&row[column])).max().unwrap_or_default();
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        rows.iter().map(|row| line(row, &widths, style)).collect()
    }
}

fn length(cell: &Cell) -> usize {
    printable(&cell.text).chars().count()
}

fn line(row: &[Cell], widths: &[usize], style: Style) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        line.push_str(&style.paint(cell.tone, &cell.text));
        if index + 1 < row.len() {
            line.push_str(&" ".repeat(width.saturating_sub(length(cell))));
            line.push_str(GAP);
        }
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}
