//! A cluster's authority, from the call to the certificate: who calls, for whom they may ask, and how often.

pub mod authorize;
pub mod caller;
pub mod limits;
pub mod listener;
pub mod service;
pub mod witness;

#[cfg(test)]
mod tests;
