//! A small HTTP/1.1 server: metrics, readiness, dumps, and the few things that an operator can change while the process runs.
//! The only importer of hyper, with its siblings.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::guard::{self, Audience};
pub use super::page::{Page, Route};

/// A bound server that does not answer yet.
pub struct AdminServer {
    listener: TcpListener,
    pages: Pages,
}

/// What is served, and to whom.
struct Pages {
    routes: Vec<Route>,
    audience: Audience,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    /// A client that has not sent its request by then is not waited for.
    request: Duration,
    /// The whole of an exchange, also with a client that does not read; longer than any page takes to be made.
    exchange: Duration,
}

const LIMITS: Limits = Limits { request: Duration::from_secs(10), exchange: Duration::from_secs(120) };

/// Clients served at a time; more wait in the listener's queue.
const CLIENTS: usize = 64;

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;

/// The longest body of a request, in bytes. No page reads it; what a POST changes is in its query.
const LONGEST_BODY: usize = 4 * 1024;

/// How long accepting pauses when there is no descriptor for one more client.
const PAUSE_AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

impl AdminServer {
    /// Takes the address, for pages that anybody may see. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, routes: Vec<Route>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            io::Error::new(e.kind(), format!("pages cannot be served on {address}: {e}; choose another address"))
        })?;
        Ok(Self { listener, pages: Pages { routes, audience: Audience::Anybody, limits: LIMITS } })
    }

    /// Answers only those who are on this machine, and no web page that a browser here has open.
    #[must_use]
    pub fn for_this_machine(mut self) -> Self {
        self.pages.audience = Audience::ThisMachine;
        self
    }

    /// Waits less, so that a test need not.
    #[cfg(test)]
    pub(super) fn limit_times(&mut self, request: Duration, exchange: Duration) {
        self.pages.limits = Limits { request, exchange };
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
        let pages = Arc::new(self.pages);
        let places = Arc::new(Semaphore::new(CLIENTS));
        let clients = TaskTracker::new();
        let accepting = async {
            // The semaphore is never closed.
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                let Ok((client, _)) = self.listener.accept().await else {
                    tokio::time::sleep(PAUSE_AFTER_ACCEPT_ERROR).await;
                    continue;
                };
                let pages = Arc::clone(&pages);
                let _tracked = clients.spawn(async move {
                    serve_client(client, &pages).await;
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = stop => {}
            () = accepting => {}
        }
    }
}

async fn serve_client(client: TcpStream, pages: &Pages) {
    let answer = service_fn(async |request| Ok::<_, Infallible>(response(pages.answer(request).await)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(pages.limits.request)
        .keep_alive(false)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(client), answer);
    match tokio::time::timeout(pages.limits.exchange, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin client"),
        Err(_) => tracing::debug!("an admin client took too long"),
    }
}

impl Pages {
    async fn answer(&self, request: Request<Incoming>) -> Page {
        let (head, body) = request.into_parts();
        if let Err(refusal) = guard::check(self.audience, &head.method, &head.uri, &head.headers) {
            return refusal;
        }
        if let Err(refusal) = self.read_through(body).await {
            return refusal;
        }
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let route = self.routes.iter().find(|route| route.path == path);
        match (route, head.method == Method::POST) {
            (Some(Route { get, .. }), false) => get(query).await,
            (Some(Route { post: Some(post), .. }), true) => post(query).await,
            (Some(_), true) => Page::text(405, "only GET is answered here\n"),
            (None, false) if path == "/" => Page::text(200, self.index()),
            (None, _) => Page::text(404, self.index()),
        }
    }

    /// What is sent has to be read before the client reads, but is not kept.
    async fn read_through(&self, body: Incoming) -> Result<(), Page> {
        if body.is_end_stream() {
            return Ok(());
        }
        match tokio::time::timeout(self.limits.request, Limited::new(body, LONGEST_BODY).collect()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Page::text(413, format!("a body has at most {LONGEST_BODY} bytes here\n"))),
            Err(_) => Err(Page::text(408, "the request did not end\n")),
        }
    }

    fn index(&self) -> String {
        let line = |route: &Route| {
            let methods = if route.post.is_some() { "GET, POST" } else { "GET" };
            format!("{:<22} {methods:<10} {}\n", route.path, route.about)
        };
        self.routes.iter().map(line).collect()
    }
}

fn response(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(page.body));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if page.status == 405 {
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}
