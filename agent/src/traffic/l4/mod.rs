//! One TCP connection, from the capture to its last byte.
