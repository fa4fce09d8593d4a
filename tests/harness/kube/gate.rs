//! A door in front of a server: connections pass while it is open, and break when it closes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::mesh::lock;

/// A port on loopback that leads to a server, or nowhere.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    open: AtomicBool,
    ended: AtomicBool,
    passing: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// An open gate to `target`.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = State { target, open: true.into(), ended: false.into(), passing: Mutex::default() };
        let state = Arc::new(state);
        let own = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if own.ended.load(Ordering::SeqCst) {
                    return;
                }
                if own.open.load(Ordering::SeqCst) {
                    let _refused = own.pass(client);
                }
            }
        });
        Self { address, state }
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection, and all new ones until it is opened.
    pub fn close(&self) {
        self.state.open.store(false, Ordering::SeqCst);
        for stream in lock(&self.state.passing).drain(..) {
            let _ended_before = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections pass again.
    pub fn open(&self) {
        self.state.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.close();
        let _wakes_the_thread = TcpStream::connect(self.address);
    }
}

impl State {
    fn pass(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.target)?;
        lock(&self.passing).extend([client.try_clone()?, server.try_clone()?]);
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            thread::spawn(move || copy(from, to));
        }
        Ok(())
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ended_before = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
