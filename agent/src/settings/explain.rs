//! Settings of `sotto explain`.

use crate::cli::{ExplainArgs, Output};
use crate::control::diagnose::question::{Question, QuestionError};
use crate::roles::explain::Config;

/// Checks the flags and turns them into a question.
///
/// # Errors
/// When a flag's value makes no sense, naming the flag.
pub fn config(args: ExplainArgs) -> Result<Config, QuestionError> {
    let port = args.port.to_string();
    let fields = [
        ("from", args.from),
        ("from-identity", args.from_identity),
        ("from-ip", args.from_ip),
        ("to", Some(args.to)),
        ("port", Some(port)),
    ];
    let question = Question::of(fields.into_iter().filter_map(|(field, value)| Some((field, value?))))?;
    Ok(Config { admin: args.admin_addr, question, json: args.output == Output::Json })
}
