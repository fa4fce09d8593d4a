//! Pods joining and leaving, certificates being signed.

pub mod announce;
pub mod authority;
pub mod enroll;
