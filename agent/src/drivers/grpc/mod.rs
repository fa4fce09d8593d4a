//! gRPC (tonic, prost): Istio's certificate service, `istio.v1.auth.IstioCertificateService`, as server and as client.
//!
//! The messages are written out by hand in `messages`; nobody who builds needs a protobuf compiler. Streams come from
//! outside, encrypted already: nothing in here knows TLS.

pub mod client;
mod messages;
pub mod server;
pub mod service;
