//! Pods joining and leaving, certificates being signed.

pub mod authority;
pub mod enroll;
pub mod provision;
