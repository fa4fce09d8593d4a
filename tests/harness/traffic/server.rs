//! Servers that remember who connected, and what was wrong with it.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::socket;

use super::conn::Conn;

/// A running server. It goes on until [`Server::stop`] or the end of the mesh.
#[derive(Clone, Debug)]
pub struct Server(Arc<State>);

/// All servers of a mesh.
#[derive(Debug, Default)]
pub(crate) struct Servers(Mutex<Vec<Server>>);

#[derive(Debug)]
struct State {
    listener: TcpListener,
    peers: Mutex<Vec<SocketAddr>>,
    open: Mutex<HashMap<usize, TcpStream>>,
    failures: Mutex<Vec<String>>,
    stopping: AtomicBool,
}

impl Server {
    /// Serves every connection with `handler`, each on a thread of its own. A handler that panics fails the test at its end.
    pub(crate) fn start(listener: TcpListener, handler: impl Fn(Conn) + Send + Sync + 'static) -> Self {
        let state = Arc::new(State {
            listener,
            peers: Mutex::default(),
            open: Mutex::default(),
            failures: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let (server, handler) = (Self(Arc::clone(&state)), Arc::new(handler));
        thread::spawn(move || {
            for id in 0.. {
                let Ok((stream, _)) = state.listener.accept() else { return };
                let Ok(copy) = stream.try_clone() else { return };
                let Ok(conn) = Conn::new(stream) else { continue };
                lock(&state.peers).push(conn.peer_addr());
                lock(&state.open).insert(id, copy);
                let (state, handler) = (Arc::clone(&state), Arc::clone(&handler));
                thread::spawn(move || state.handle(id, conn, handler.as_ref()));
            }
        });
        server
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never for a socket that listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.listener.local_addr().expect("a listening socket has an address").port()
    }

    /// The addresses of all clients so far, in the order they came.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        lock(&self.0.peers).clone()
    }

    /// Ends the server: its port refuses, and its open connections are closed.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        // Wakes accept(), which then fails; the socket stops to listen at once.
        let _ = socket::shutdown(self.0.listener.as_raw_fd(), socket::Shutdown::Both);
        for (_, stream) in lock(&self.0.open).drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn handle(&self, id: usize, conn: Conn, handler: &(dyn Fn(Conn) + Send + Sync)) {
        let name = conn.to_string();
        let result = catch_unwind(AssertUnwindSafe(|| handler(conn)));
        if result.is_err() && !self.stopping.load(Ordering::SeqCst) {
            lock(&self.failures).push(name);
        }
        // What the map holds is a copy of the descriptor: the client sees the end only when that goes as well.
        lock(&self.open).remove(&id);
    }
}

impl Servers {
    pub(crate) fn add(&self, server: &Server) {
        lock(&self.0).push(server.clone());
    }

    /// Stops all servers; returns the connections whose handlers had panicked before.
    pub(crate) fn stop(&self) -> Vec<String> {
        let servers = std::mem::take(&mut *lock(&self.0));
        servers.iter().for_each(Server::stop);
        servers.iter().flat_map(|server| lock(&server.0.failures).clone()).collect()
    }
}

/// Sends back what comes, then closes as the client does.
pub(crate) fn echo(conn: &Conn) {
    let mut buffer = vec![0; 64 * 1024];
    let mut stream = conn.stream();
    // No deadline: a connection that is kept open says nothing for as long as the test likes.
    let _ = stream.set_read_timeout(None);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Reads a request's head, answers with `body`, closes.
pub(crate) fn http(conn: &mut Conn, body: &str) {
    while !conn.receive_line().is_empty() {}
    conn.send(http_response(body));
}

/// A complete HTTP response.
#[must_use]
pub fn http_response(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
