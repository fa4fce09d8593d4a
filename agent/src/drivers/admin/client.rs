//! One question to the admin pages of a running agent.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request, client};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long an answer may take that is made at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes: a mesh of 100,000 pods has some hundred megabytes.
const MAX_ANSWER: usize = 512 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("no agent answers at {address}; does it run on this machine, and is this its --admin-addr?")]
    Connect {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is there does not speak as an agent does, or stopped.
    #[error("no answer from {address}: {problem}; is this an agent's --admin-addr?")]
    Exchange {
        /// Who was asked.
        address: String,
        /// What went wrong.
        problem: String,
    },
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whether something is to be changed.
    pub post: bool,
    /// The path, with its query.
    pub path: String,
    /// The longest answer that is read, in bytes.
    pub longest: usize,
    /// How long the answer may take.
    pub patience: Duration,
}

/// The status and the body of an answer.
pub type Answered = (u16, Vec<u8>);

impl Ask {
    /// Asks to be shown something.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { post: false, path: path.into(), longest: MAX_ANSWER, patience: PATIENCE }
    }

    /// Asks for a change.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self { post: true, ..Self::get(path) }
    }

    /// Reads no longer answer than this, in bytes.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Waits for so much longer, while the answer is being made.
    #[must_use]
    pub fn made_in(mut self, time: Duration) -> Self {
        self.patience = PATIENCE + time;
        self
    }
}

/// Asks the agent at `address`.
///
/// # Errors
/// [`AskError`]
pub async fn ask(address: SocketAddr, ask: &Ask) -> Result<Answered, AskError> {
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = connected.map_err(|source| AskError::Connect { address, source })?;
    ask_over(stream, &address, ask).await
}

/// Asks the agent at the other end of `stream`, which leads to `address`.
///
/// # Errors
/// [`AskError::Exchange`]
pub async fn ask_over<S>(stream: S, address: &impl fmt::Display, ask: &Ask) -> Result<Answered, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |problem: String| AskError::Exchange { address: address.to_string(), problem };
    match tokio::time::timeout(ask.patience, exchange(stream, ask)).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed(format!("nothing within {:?}", ask.patience))),
    }
}

async fn exchange<S>(stream: S, ask: &Ask) -> Result<Answered, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let told = |error: &dyn fmt::Display| error.to_string();
    let (mut sender, connection) =
        client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    let method = if ask.post { Method::POST } else { Method::GET };
    // Whatever leads there: for the agent it is its own loopback.
    let request = Request::builder().method(method).uri(&ask.path).header(HOST, "localhost");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| told(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ask.longest).collect().await;
        let body = body.map_err(|error| told(&error))?.to_bytes();
        Ok((status, body.into()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered,
        // The connection may be over when all of the answer is here.
        _over = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::{AdminServer, Page, Route};
    use super::*;

    #[tokio::test]
    async fn a_page_is_fetched_with_its_query_and_nobody_is_told_apart_from_nonsense() {
        let route = Route::new("/explain", "answers", |query| Page::text(400, format!("asked {query}")))
            .with_post(|query| Page::text(200, format!("changed {query}")));
        let server = AdminServer::bind("127.0.0.1:0".parse().unwrap(), vec![route]).await.unwrap().for_this_machine();
        let address = server.address().unwrap();
        let asking = async {
            let (get, post) = (Ask::get("/explain?a=b"), Ask::post("/explain?c=d"));
            assert_eq!(ask(address, &get).await.unwrap(), (400, b"asked a=b".to_vec()));
            assert_eq!(ask(address, &post).await.unwrap(), (200, b"changed c=d".to_vec()));
        };
        server.serve(asking).await;
        assert!(matches!(ask(address, &Ask::get("/explain")).await, Err(AskError::Connect { .. })));
        let garbage = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = garbage.local_addr().unwrap();
        let speak = async {
            let (stream, _) = garbage.accept().await.unwrap();
            stream.writable().await.unwrap();
            stream.try_write(b"SSH-2.0-x\r\n").unwrap();
        };
        let root = Ask::get("/");
        let (answer, ()) = tokio::join!(ask(address, &root), speak);
        assert!(matches!(answer, Err(AskError::Exchange { .. })), "{answer:?}");
    }
}
