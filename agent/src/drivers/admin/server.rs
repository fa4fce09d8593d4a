//! A small HTTP/1.1 server for GET requests: metrics, readiness, dumps. The only importer of hyper, with [`super::client`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// One page's answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// MIME type of the body.
    pub content_type: &'static str,
    /// What is shown.
    pub body: String,
}

/// A path and what it shows.
pub struct Route {
    /// For example `/metrics`.
    pub path: &'static str,
    /// What it is for, one line.
    pub about: &'static str,
    /// Makes the page from the query of the request, which is as it came: hostile, and empty where there is none.
    pub page: Box<dyn Fn(&str) -> Page + Send + Sync>,
}

/// A bound server that does not answer yet.
pub struct AdminServer {
    listener: TcpListener,
    routes: Vec<Route>,
}

/// A client that sends nothing is not waited for longer than this.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// Clients served at a time; more wait in the listener's queue.
const CLIENTS: usize = 64;

impl Page {
    /// A text page.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// A JSON page.
    #[must_use]
    pub fn json(body: String) -> Self {
        Self { status: 200, content_type: "application/json", body }
    }
}

impl AdminServer {
    /// Takes the address. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, routes: Vec<Route>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            io::Error::new(e.kind(), format!("pages cannot be served on {address}: {e}; choose another address"))
        })?;
        Ok(Self { listener, routes })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` completes; requests under way then are dropped.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let routes = std::sync::Arc::new(self.routes);
        let clients = TaskTracker::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return,
                accepted = self.listener.accept(), if clients.len() < CLIENTS => accepted,
                () = tokio::time::sleep(Duration::from_millis(20)), if clients.len() >= CLIENTS => continue,
            };
            if let Ok((client, _)) = accepted {
                let routes = std::sync::Arc::clone(&routes);
                let _tracked = clients.spawn(async move { serve_client(client, &routes).await });
            }
        }
    }
}

async fn serve_client(client: TcpStream, routes: &[Route]) {
    let answer = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(response(&find(routes, request.method(), request.uri())))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(client), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin client");
    }
}

fn find(routes: &[Route], method: &Method, uri: &Uri) -> Page {
    let path = uri.path();
    if *method != Method::GET {
        return Page::text(405, "only GET is answered here\n");
    }
    match routes.iter().find(|route| route.path == path) {
        Some(route) => (route.page)(uri.query().unwrap_or_default()),
        None if path == "/" => Page::text(200, index(routes)),
        None => Page::text(404, index(routes)),
    }
}

fn index(routes: &[Route]) -> String {
    routes.iter().map(|route| format!("{:<18} {}\n", route.path, route.about)).collect()
}

fn response(page: &Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page.body.clone())));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_are_served_and_anything_else_is_answered_politely() {
        let route = Route {
            path: "/metrics",
            about: "counts",
            page: Box::new(|query| Page::text(200, format!("one 1 {query}\n"))),
        };
        let server = AdminServer::bind("127.0.0.1:0".parse().unwrap(), vec![route]).await.unwrap();
        let address = server.listener.local_addr().unwrap();
        let client = async {
            let metrics = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(metrics.starts_with("HTTP/1.1 200") && metrics.ends_with("one 1 \n"), "{metrics}");
            let asked = ask(address, "GET /metrics?a=%00&b=c HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(asked.ends_with("one 1 a=%00&b=c\n"), "{asked}");
            let index = ask(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(index.contains("/metrics"), "{index}");
            assert!(ask(address, "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
            assert!(ask(address, "POST /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
            assert!(ask(address, "\x16\x03\x01garbage\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        };
        server.serve(client).await;
    }
}
