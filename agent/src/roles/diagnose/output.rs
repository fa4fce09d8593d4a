//! How answers are printed, and what the process says with its exit status.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::control::diagnose::show::style::Style;

/// How answers look.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// As JSON, for programs.
    pub json: bool,
    /// For people.
    pub style: Style,
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well; yes.
    Fine,
    /// Something was found; no.
    Finding,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The question makes no sense.
    #[error("{0}")]
    Question(String),
    /// Nobody answers, or not in a way that is understood.
    #[error("{0:#}")]
    NoAnswer(anyhow::Error),
}

impl Output {
    /// For standard output as it is: colours on a terminal, unless `NO_COLOR` is set to something.
    #[must_use]
    pub fn for_stdout(json: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { json, style: Style { colours: io::stdout().is_terminal() && !unwanted && !dumb } }
    }

    /// Prints JSON, or what people read.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn print<T: Serialize + ?Sized>(self, value: &T, text: impl FnOnce(Style) -> String) -> Result<(), Failure> {
        if !self.json {
            return print(&text(self.style));
        }
        let json = serde_json::to_string_pretty(value).map_err(|error| Failure::NoAnswer(error.into()))?;
        print(&(json + "\n"))
    }
}

impl Outcome {
    /// Fine, if that holds.
    #[must_use]
    pub fn fine_if(fine: bool) -> Self {
        if fine { Self::Fine } else { Self::Finding }
    }
}

/// Prints text. Whoever has read enough (`| head`) is no error.
///
/// # Errors
/// When standard output is gone.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::NoAnswer(anyhow::Error::from(error).context("printing the answer")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
