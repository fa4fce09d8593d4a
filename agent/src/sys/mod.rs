//! Every call into the kernel that the standard library does not offer.

pub mod limits;
pub mod netns;
pub mod reply_path;
pub mod socket;
