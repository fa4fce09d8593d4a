//! Keys, certificates and TLS configurations (rustls).
