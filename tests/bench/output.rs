//! What was measured, value by value.
#![expect(clippy::print_stdout, reason = "progress is for the terminal")]

use std::fmt::Display;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Prints a line.
pub(crate) fn say(text: impl Display) {
    println!("{text}");
}

/// Everything that a run has found out.
#[derive(Debug, Default)]
pub(crate) struct Record {
    samples: Vec<Value>,
    notes: Vec<String>,
    facts: serde_json::Map<String, Value>,
}

impl Record {
    /// One value of one contestant. Units are part of a figure's name (`startup_ms`).
    pub(crate) fn sample(&mut self, contestant: &str, round: u32, figure: &str, value: f64) {
        self.samples.push(json!({ "contestant": contestant, "round": round, "figure": figure, "value": value }));
    }

    /// Something that a reader of the figures has to know.
    pub(crate) fn note(&mut self, text: impl Display) {
        let text = text.to_string();
        say(format_args!("note: {text}"));
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Something about the run as a whole.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Writes everything, by renaming a finished file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let document = json!({ "facts": self.facts, "notes": self.notes, "samples": self.samples });
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, format!("{document:#}\n"))
            .and_then(|()| fs::rename(&unfinished, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
