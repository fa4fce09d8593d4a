//! One question to the admin pages of a running agent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, client};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("no agent answers at {address}: {source}; does it run, and is this its --admin-addr?")]
    Connect {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is there does not speak as an agent does, or stopped.
    #[error("no answer from {address}: {problem}")]
    Exchange {
        /// Who was asked.
        address: SocketAddr,
        /// What went wrong.
        problem: String,
    },
}

/// Asks for `path`, with its query; the status and the body of the answer.
///
/// # Errors
/// [`AskError`]
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), AskError> {
    let failed = |problem: String| AskError::Exchange { address, problem };
    match tokio::time::timeout(PATIENCE, exchange(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(failed(format!("nothing within {PATIENCE:?}"))),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<(u16, String), AskError> {
    let failed = |problem: String| AskError::Exchange { address, problem };
    let stream = TcpStream::connect(address).await.map_err(|source| AskError::Connect { address, source })?;
    let (mut sender, connection) =
        client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
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
        let page = |query: &str| Page::text(400, format!("asked {query}"));
        let route = Route { path: "/explain", about: "answers", page: Box::new(page) };
        let server = AdminServer::bind("127.0.0.1:0".parse().unwrap(), vec![route]).await.unwrap();
        let address = server.address().unwrap();
        let asking = async {
            assert_eq!(get(address, "/explain?a=b").await.unwrap(), (400, "asked a=b".to_owned()));
        };
        server.serve(asking).await;
        assert!(matches!(get(address, "/explain").await, Err(AskError::Connect { .. })));
        let garbage = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = garbage.local_addr().unwrap();
        let speak = async {
            let (stream, _) = garbage.accept().await.unwrap();
            stream.writable().await.unwrap();
            stream.try_write(b"SSH-2.0-x\r\n").unwrap();
        };
        let (answer, ()) = tokio::join!(get(address, "/"), speak);
        assert!(matches!(answer, Err(AskError::Exchange { .. })), "{answer:?}");
    }
}
