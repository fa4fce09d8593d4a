//! What the API server judges: whose a token is, and what one may do.

pub mod access;
pub mod token;
