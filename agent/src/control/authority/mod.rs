//! Signs certificates.
//!
//! [`local`] is an authority in this process whose key lies in a [`directory`] that several nodes may share.

pub mod directory;
pub mod local;

#[cfg(test)]
mod tests;
