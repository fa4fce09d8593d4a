//! What policies must and must not do. The table of single cases, written as manifests, is in `tests/policy/`.

mod explanations;
mod generate;
mod patterns;
mod properties;
