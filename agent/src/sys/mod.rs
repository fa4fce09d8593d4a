//! Every call into the kernel that the standard library does not offer.

pub mod netns;
pub mod socket;
