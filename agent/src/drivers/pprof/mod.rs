//! Profiles as pprof's tools read them: names for addresses, and the format. The only importer of addr2line and flate2.

pub mod profile;

mod messages;
mod symbols;

#[cfg(test)]
mod tests;
