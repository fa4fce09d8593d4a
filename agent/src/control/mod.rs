//! Pods joining and leaving, certificates being signed.

pub mod announce;
pub mod authority;
pub mod diagnose;
pub mod enroll;
pub mod kubelet;
pub mod provision;
