//! The handshake itself: what rustls has to say goes out, what the peer says comes in, until both have keys.

use std::io;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::records::{Established, KeySchedule, RecordConnection};

/// The most that may wait for the rest of a message, in bytes. The longest message that rustls takes has 64 KiB.
const MOST_WAITING: usize = 96 * 1024;

/// How much is made room for at a time, in bytes: more than the usual flight of either side.
const READ: usize = 4 * 1024;

/// Why there are no keys.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection broke, or the peer left.
    Io(io::Error),
    /// One side found fault with what the other said.
    Tls(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

/// What is known of the peer, besides its keys.
#[derive(Debug)]
pub(super) struct Facts {
    /// The protocol that both chose.
    pub(super) protocol: Option<Vec<u8>>,
    /// The peer's own certificate, DER.
    pub(super) certificate: Vec<u8>,
}

/// Either side of a handshake.
pub(super) trait Side: Sized {
    type Data;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
    fn into_keys(self) -> Result<(ExtractedSecrets, Box<dyn KeySchedule>), Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Box<dyn KeySchedule>), Error> {
        let (secrets, schedule) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Box::new(schedule)))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, Box<dyn KeySchedule>), Error> {
        let (secrets, schedule) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Box::new(schedule)))
    }
}

/// What a step of the handshake asks for.
enum Step {
    Again,
    Send,
    Receive,
    Done,
}

/// What has come and what has to go.
#[derive(Default)]
struct Flights {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    early: Vec<u8>,
}

/// Makes the handshake over `io`.
///
/// # Errors
/// [`Failure`]; the peer was told with an alert, if it was its fault.
pub(super) async fn negotiate<S, IO>(mut side: S, mut io: IO) -> Result<(RecordConnection<IO>, Facts), Failure>
where
    S: Side,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut flights = Flights::default();
    loop {
        match flights.step(&mut side) {
            Ok(Step::Again) => {}
            Ok(Step::Send) => {
                if let Err(error) = send(&mut io, &mut flights.outgoing).await {
                    return Err(flights.parting(&mut side, &mut io).await.unwrap_or(error.into()));
                }
            }
            Ok(Step::Receive) => receive(&mut io, &mut flights.incoming).await?,
            Ok(Step::Done) => break,
            Err(error) => {
                flights.last_words(&mut side);
                // The peer may be gone; what went wrong is known.
                let _gone = send(&mut io, &mut flights.outgoing).await;
                return Err(error.into());
            }
        }
    }
    let common = side.common();
    let protocol = common.alpn_protocol().map(<[u8]>::to_vec);
    let certificate = common.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.to_vec()).unwrap_or_default();
    let (secrets, schedule) = side.into_keys()?;
    let established = Established { secrets, schedule, early: flights.early, rest: flights.incoming };
    Ok((RecordConnection::new(io, established)?, Facts { protocol, certificate }))
}

impl Flights {
    fn step(&mut self, side: &mut impl Side) -> Result<Step, Error> {
        let UnbufferedStatus { discard, state } = side.process(&mut self.incoming);
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(mut flight)) => {
                encode(&mut flight, &mut self.outgoing)?;
                Ok(Step::Again)
            }
            Ok(ConnectionState::TransmitTlsData(flight)) => {
                flight.done();
                Ok(Step::Send)
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    self.early.extend_from_slice(record?.payload);
                }
                Ok(Step::Again)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Receive),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
            // Closed by an alert, which is no handshake; early data is never offered.
            Ok(_) => Err(Error::HandshakeNotComplete),
            Err(error) => Err(error),
        };
        self.incoming.drain(..discard);
        step
    }

    /// What has not been sent when something goes wrong: the alert that tells the peer, if it deserves one.
    fn last_words(&mut self, side: &mut impl Side) {
        while side.common().wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut alert)) = side.process(&mut self.incoming).state
            && encode(&mut alert, &mut self.outgoing).is_ok()
        {}
    }

    /// Why a peer is gone that does not take what we send: it may have said so before.
    async fn parting(&mut self, side: &mut impl Side, io: &mut (impl AsyncRead + Unpin)) -> Option<Failure> {
        receive(io, &mut self.incoming).await.ok()?;
        loop {
            match self.step(side) {
                Ok(Step::Again | Step::Send) => {}
                Ok(Step::Receive | Step::Done) => return None,
                Err(error) => return Some(error.into()),
            }
        }
    }
}

fn encode<Data>(flight: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let at = outgoing.len();
    while let Err(error) = flight.encode(&mut outgoing[at..]).map(|length| outgoing.truncate(at + length)) {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
                outgoing.resize(at + required_size, 0);
            }
            EncodeError::AlreadyEncoded => return Err(Error::General("a flight was encoded twice".into())),
        }
    }
    Ok(())
}

async fn send(io: &mut (impl AsyncWrite + Unpin), outgoing: &mut Vec<u8>) -> io::Result<()> {
    io.write_all(outgoing).await?;
    io.flush().await?;
    outgoing.clear();
    Ok(())
}

async fn receive(io: &mut (impl AsyncRead + Unpin), incoming: &mut Vec<u8>) -> io::Result<()> {
    if incoming.len() >= MOST_WAITING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a handshake message without an end"));
    }
    incoming.reserve(READ);
    if io.read_buf(incoming).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
