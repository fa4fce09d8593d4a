//! What the command line says of itself: completions and manual pages.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::roles::diagnose::output::{Failure, print};

/// What is written.
#[derive(Debug)]
pub enum Text {
    /// A completion script, to standard output.
    Completion(Shell),
    /// Manual pages, to a directory.
    Man(PathBuf),
}

/// Writes it.
///
/// # Errors
/// When it cannot be written.
pub fn write(text: &Text) -> Result<(), Failure> {
    match text {
        Text::Completion(shell) => print(&completion(*shell)),
        Text::Man(directory) => man(directory)
            .map_err(|error| Failure::Question(format!("manual pages in {}: {error}", directory.display()))),
    }
}

fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sotto", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn man(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completion(shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let directory = tempfile::tempdir().unwrap();
        man(&directory.path().join("man1")).unwrap();
        let page = |name: &str| fs::read_to_string(directory.path().join("man1").join(name)).unwrap();
        assert!(page("sotto.1").contains("sotto\\-explain(1)"), "{}", page("sotto.1"));
        for command in Cli::command().get_subcommands() {
            let text = page(&format!("sotto-{}.1", command.get_name()));
            assert!(text.contains(".SH SYNOPSIS") && text.contains("sotto"), "{text}");
        }
    }
}
