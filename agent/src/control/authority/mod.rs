//! Signs certificates.
//!
//! [`local`] is an authority in this process whose key lies in a [`directory`] that several nodes may share; [`remote`] asks one
//! over the network. The rest is that other end, for a whole cluster: [`issue`] decides who gets what, [`root`] keeps the key.

pub mod directory;
pub mod issue;
pub mod local;
pub mod remote;
pub mod root;

#[cfg(test)]
mod tests;
