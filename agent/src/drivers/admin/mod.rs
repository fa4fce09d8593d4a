//! The admin HTTP server (hyper).
