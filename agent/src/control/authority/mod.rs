//! Signs certificates.
