//! Who runs what: one file per subcommand.
