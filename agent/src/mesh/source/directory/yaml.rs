//! One YAML (or JSON, which is YAML) text through serde, with limits, and its errors in words for operators.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeSeed};
use serde_saphyr::{Error, MessageFormatter, Options, UserMessageFormatter};

use crate::mesh::source::field::{FieldPath, one_line, shorten};

/// How deep mappings and sequences may nest.
const MAX_DEPTH: usize = 128;

/// How many values one document may have, aliases followed; ten times what the largest file of ordinary pods has.
const MAX_VALUES: usize = 4_000_000;

/// Why a text is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextError {
    /// The line in the text, counted from 1, if it is known.
    pub(super) line: Option<u64>,
    /// The field; empty where the text as a whole is broken.
    pub(super) field: FieldPath,
    /// What is wrong.
    pub(super) message: String,
}

/// Reads a text as `T`.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, TextError> {
    parse_seed(text, std::marker::PhantomData)
}

/// Reads a text with a seed.
pub(super) fn parse_seed<S, T>(text: &str, seed: S) -> Result<T, TextError>
where
    S: for<'de> DeserializeSeed<'de, Value = T>,
{
    let mut track = serde_path_to_error::Track::new();
    let result = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        seed.deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    });
    result.map_err(|error| {
        let error = error.without_snippet();
        // A text that breaks off says nothing about the field in which it does.
        let field = if is_about_text(error) { FieldPath::default() } else { FieldPath::from(&track.path()) };
        TextError { line: line_of(error), field, message: message_of(error) }
    })
}

/// The line, counted from 1, that an error is about.
pub(super) fn line_of(error: &Error) -> Option<u64> {
    error.location().map(|location| location.line()).filter(|line| *line > 0)
}

/// Limits for hostile texts. Only `true` and `false` are booleans, as for Kubernetes.
pub(super) fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_events: MAX_VALUES,
            max_nodes: MAX_VALUES,
        },
        strict_booleans: true,
        with_snippet: false,
    }
}

fn is_about_text(error: &Error) -> bool {
    matches!(
        error,
        Error::Eof { .. }
            | Error::ExternalMessage { .. }
            | Error::Budget { .. }
            | Error::MultipleDocuments { .. }
            | Error::DuplicateMappingKey { .. }
            | Error::UnknownAnchor { .. }
    )
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library has dozens of errors and will have more")]
fn message_of(error: &Error) -> String {
    let text: Cow<'_, str> = match error {
        Error::AliasError { error, .. } => return message_of(error),
        Error::InvalidScalar { ty, .. } => match *ty {
            "i32" | "i64" | "u16" | "u32" | "u64" => "expected an integer".into(),
            ty => format!("expected a value of type {ty}").into(),
        },
        Error::InvalidBooleanStrict { .. } => "expected true or false".into(),
        Error::NullIntoString { .. } => "expected a text, found null".into(),
        Error::Unexpected { expected: "mapping start", .. } => "expected a mapping".into(),
        Error::Unexpected { expected: "sequence start", .. } => "expected a list".into(),
        Error::Unexpected { expected: "string scalar", .. } => "expected a text".into(),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {:?} is there twice", shorten(key)).into()
        }
        Error::DuplicateMappingKey { key: None, .. } => "a key is there twice".into(),
        Error::UnknownAnchor { .. } => "an alias (*name) has no anchor (&name)".into(),
        other => UserMessageFormatter.format_message(other),
    };
    one_line(&text)
}
