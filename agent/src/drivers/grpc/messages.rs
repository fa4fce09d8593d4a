//! The wire form of Istio's certificate service (`security/v1alpha1/ca.proto`), as far as it is used.
//!
//! `google.protobuf.Struct` is read by its strings only: other kinds of values, and what they nest, are skipped unread.

use std::collections::HashMap;

/// The one method of the service.
pub(super) const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// The key in a request's metadata whose value is the identity that a node agent asks for on behalf of a pod.
pub(super) const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

/// `istio.v1.auth.IstioCertificateRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CertificateRequest {
    /// The signing request, PEM.
    #[prost(string, tag = "1")]
    pub(super) csr: String,
    /// For how many seconds the certificate is wanted.
    #[prost(int64, tag = "3")]
    pub(super) validity_duration: i64,
    /// Whatever else.
    #[prost(message, optional, tag = "4")]
    pub(super) metadata: Option<Struct>,
}

/// `istio.v1.auth.IstioCertificateResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CertificateResponse {
    /// PEM: the leaf, the intermediates, and as the last entry all roots.
    #[prost(string, repeated, tag = "1")]
    pub(super) cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Struct {
    #[prost(map = "string, message", tag = "1")]
    pub(super) fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, if it is a string.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Value {
    #[prost(string, optional, tag = "3")]
    pub(super) string_value: Option<String>,
}

impl CertificateRequest {
    /// A request; `impersonated` is left out where the caller asks for itself.
    pub(super) fn new(csr: String, seconds: i64, impersonated: Option<String>) -> Self {
        let metadata = impersonated.map(|identity| Struct {
            fields: HashMap::from([(IMPERSONATED_IDENTITY.to_owned(), Value { string_value: Some(identity) })]),
        });
        Self { csr, validity_duration: seconds, metadata }
    }

    /// Whom the request is for, if not the caller: the metadata's value, taken out. `Err` when there is one that is not text:
    /// it must not count as none.
    pub(super) fn take_impersonated(&mut self) -> Result<Option<String>, &'static str> {
        match self.metadata.as_mut().and_then(|metadata| metadata.fields.remove(IMPERSONATED_IDENTITY)) {
            None => Ok(None),
            Some(Value { string_value: Some(identity) }) => Ok(Some(identity)),
            Some(Value { string_value: None }) => Err("the metadata's ImpersonatedIdentity is not a string"),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_request_is_encoded_as_the_protocol_has_it() {
        let request = CertificateRequest::new("PEM".into(), 86400, Some("spiffe://td/ns/a/sa/b".into()));
        let bytes = request.encode_to_vec();
        // csr = 1, validity_duration = 3 (86400 as a varint), metadata = 4 { fields = 1 { key = 1, value = 2 { string_value = 3 } } }
        let mut expected =
            b"\x0a\x03PEM\x18\x80\xa3\x05\x22\x31\x0a\x2f\x0a\x14ImpersonatedIdentity\x12\x17\x1a\x15".to_vec();
        expected.extend_from_slice(b"spiffe://td/ns/a/sa/b");
        assert_eq!(bytes, expected);
        let mut read = CertificateRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.take_impersonated(), Ok(Some("spiffe://td/ns/a/sa/b".into())));
    }

    #[test]
    fn values_that_are_no_strings_are_skipped_but_never_taken_for_no_identity() {
        // fields { "n": number 1.0, "l": list of list of …, "ImpersonatedIdentity": bool }
        let number = b"\x0a\x0e\x0a\x01n\x12\x09\x11\0\0\0\0\0\0\xf0\x3f";
        let list = b"\x0a\x0b\x0a\x01l\x12\x06\x32\x04\x0a\x02\x32\x00";
        let truth = b"\x0a\x1a\x0a\x14ImpersonatedIdentity\x12\x02\x20\x01";
        let metadata: Vec<u8> = [number.as_slice(), list, truth].concat();
        let mut bytes = vec![0x22, u8::try_from(metadata.len()).unwrap()];
        bytes.extend_from_slice(&metadata);
        let mut read = CertificateRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.metadata.as_ref().unwrap().fields.len(), 3);
        assert!(read.take_impersonated().is_err());
    }
}
