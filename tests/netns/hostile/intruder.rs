//! A peer at a pod's HBONE port that does what it likes: certificates of its own making, and frames written byte by byte.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harness::{DEADLINE, External, Mesh};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// What the intruder shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passport {
    Valid,
    Missing,
    Expired,
    NotYetValid,
    WrongRoot,
    WrongTrustDomain,
    TwoNames,
    Authority,
}

/// A machine outside of the mesh that got hold of the mesh's authority.
pub(crate) struct Intruder {
    pub(crate) site: External,
    authority: PathBuf,
}

impl Intruder {
    pub(crate) fn new(mesh: &Mesh, name: &str) -> Self {
        Self { site: mesh.external(name), authority: mesh.ca_directory() }
    }

    /// TCP only.
    pub(crate) fn dial(&self, to: SocketAddr) -> TcpStream {
        let stream = self.site.netns().run(|| TcpStream::connect_timeout(&to, DEADLINE));
        let stream = stream.unwrap_or_else(|error| panic!("the intruder cannot connect to {to}: {error}"));
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        stream
    }

    /// TLS; that the server took the certificate shows only in what it answers.
    pub(crate) fn tls(&self, to: SocketAddr, passport: Passport) -> io::Result<Raw> {
        let connection = ClientConnection::new(Arc::new(self.config(passport)), ServerName::from(to.ip()));
        let mut tls = StreamOwned::new(connection.map_err(io::Error::other)?, self.dial(to));
        tls.flush()?;
        Ok(Raw { tls })
    }

    /// A tunnel as a member of the mesh begins one.
    pub(crate) fn tunnel(&self, to: SocketAddr) -> Raw {
        let mut raw = self.tls(to, Passport::Valid).expect("a valid certificate is accepted");
        raw.send_preface().expect("the preface is taken");
        raw
    }

    fn config(&self, passport: Passport) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let builder =
            builder.expect("the provider has TLS 1.3").dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = match passport {
            Passport::Missing => builder.with_no_client_auth(),
            Passport::Valid
            | Passport::Expired
            | Passport::NotYetValid
            | Passport::WrongRoot
            | Passport::WrongTrustDomain
            | Passport::TwoNames
            | Passport::Authority => {
                let (chain, key) = issue(&self.authority, passport);
                builder.with_client_auth_cert(chain, key).expect("key and certificate belong together")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

fn issue(authority: &Path, passport: Passport) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let read = |file: &str| fs::read_to_string(authority.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let domain = if passport == Passport::WrongTrustDomain { "example.org" } else { "cluster.local" };
    let name = |account: &str| {
        let uri = format!("spiffe://{domain}/ns/demo/sa/{account}");
        SanType::URI(uri.try_into().expect("the name is ASCII"))
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name("intruder")];
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    (params.not_before, params.not_after) = (year(2020), year(2090));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    match passport {
        Passport::Expired => params.not_after = year(2021),
        Passport::NotYetValid => params.not_before = year(2080),
        Passport::TwoNames => params.subject_alt_names.push(name("second")),
        Passport::Authority => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Passport::Valid | Passport::Missing | Passport::WrongRoot | Passport::WrongTrustDomain => {}
    }
    let key = KeyPair::generate().expect("a key can be made");
    let (certificate, issuer) = if passport == Passport::WrongRoot {
        let own_key = KeyPair::generate().expect("a key can be made");
        let mut own = CertificateParams::default();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = own.self_signed(&own_key).expect("a root can be signed");
        (params.signed_by(&key, &Issuer::new(own, own_key)).expect("a certificate can be signed"), root.der().clone())
    } else {
        let pem = read("ca-cert.pem");
        let issuer_key = KeyPair::from_pem(&read("ca-key.pem")).expect("the authority's key is readable");
        let issuer = Issuer::from_ca_cert_pem(&pem, issuer_key).expect("the authority's certificate is readable");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("the authority's certificate is PEM");
        (params.signed_by(&key, &issuer).expect("a certificate can be signed"), der)
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("the key is PKCS #8");
    (vec![certificate.der().clone(), issuer], key)
}

/// Believes every server.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// One HTTP/2 frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// An encrypted connection on which anything may be sent.
pub(crate) struct Raw {
    tls: StreamOwned<ClientConnection, TcpStream>,
}

impl Raw {
    pub(crate) fn address(&self) -> SocketAddr {
        self.tls.sock.local_addr().expect("a connected socket has an address")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    pub(crate) fn send_preface(&mut self) -> io::Result<()> {
        self.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
    }

    /// The next frame; `None` at the end of the connection, whatever ended it.
    pub(crate) fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.read_exact(&mut payload)?;
        let (kind, stream) = (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        if kind == SETTINGS && head[4] & ACK == 0 {
            // Without the answer the agent would find fault with that, and not with what the test is about.
            let _ = self.send(&frame(SETTINGS, ACK, 0, &[]));
        }
        Some(Frame { kind, stream, payload })
    }

    /// Asks for a connection and says what came back: the status, or `None` when the stream or the tunnel was broken.
    pub(crate) fn ask(&mut self, stream: u32, request: &[u8]) -> Option<u16> {
        self.send(request).ok()?;
        loop {
            let frame = self.read_frame()?;
            match frame.kind {
                HEADERS if frame.stream == stream => return Some(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return None,
                GOAWAY => return None,
                _ => {}
            }
        }
    }

    /// Waits until the agent has ended the connection.
    pub(crate) fn expect_end(&mut self, what: &str) {
        let mut buffer = [0; 4096];
        let _ = self.tls.sock.set_read_timeout(Some(Duration::from_secs(30)));
        loop {
            match self.tls.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("{what}: the agent did not end the connection")
                }
                Err(_) => return,
            }
        }
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.tls.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the agent says nothing, and does not end the connection either")
            }
            Err(_) => None,
        }
    }
}

/// The status of a response whose header block begins with it, as h2 writes it: indexed, or a literal of three digits.
fn status(block: &[u8]) -> u16 {
    // RFC 7541, appendix A, indices 8 to 14.
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
        // A literal with the name of index 8: its length, or Huffman-coded digits.
        [_, 0x03, digits @ ..] => std::str::from_utf8(&digits[..3]).ok().and_then(|d| d.parse().ok()).unwrap_or(0),
        _ => 599,
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are not indexed (RFC 7541, section 6.2.2). Values may have up to 16,000 bytes.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                bytes.push(length as u8);
            } else {
                bytes.push(127);
                length -= 127;
                while length >= 128 {
                    bytes.push((length % 128 + 128) as u8);
                    length /= 128;
                }
                bytes.push(length as u8);
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

pub(crate) fn connect(stream: u32, authority: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[(":method", "CONNECT"), (":authority", authority)]))
}
