//! Loopback tests of the tunnel.
