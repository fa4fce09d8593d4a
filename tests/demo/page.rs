//! How the demo looks: numbered steps, plain lines, colour only where a terminal shows it.
#![expect(clippy::print_stdout, reason = "printing is what a demo does")]

use std::fmt;
use std::io::{IsTerminal as _, stdout};

const BOLD: &str = "1";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const YELLOW: &str = "1;33";

/// Prints the demo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    colour: bool,
}

impl Page {
    pub(crate) fn new() -> Self {
        Self { colour: stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Begins a step.
    pub(crate) fn step(self, number: u8, title: &str) {
        println!("\n{}", self.paint(BOLD, &format!("{number}. {title}")));
    }

    /// A sentence.
    pub(crate) fn say(self, text: impl fmt::Display) {
        println!("   {text}");
    }

    /// A line of a small table: what, and its value.
    pub(crate) fn row(self, what: &str, value: impl fmt::Display) {
        println!("   {what:<18} {value}");
    }

    /// Something that was checked and is as it should be.
    pub(crate) fn good(self, text: &str) {
        println!("   {}", self.paint(GREEN, &format!("✓ {text}")));
    }

    /// Something that the mesh is there to change.
    pub(crate) fn exposed(self, text: &str) {
        println!("   {}", self.paint(YELLOW, &format!("! {text}")));
    }

    /// The end of a demo that did not work.
    pub(crate) fn failure(self, why: &str) {
        println!("\n{}", self.paint(RED, &format!("The demo failed: {why}")));
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
