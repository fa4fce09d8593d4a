//! The command line: subcommands and their flags.
