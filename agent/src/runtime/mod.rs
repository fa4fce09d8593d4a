//! Drain, readiness, threads.
