//! From flags to the `Config` of each module.
