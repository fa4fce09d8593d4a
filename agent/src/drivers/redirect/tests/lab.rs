//! A pod and its outside: two network namespaces and the wire between them.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::super::object::OBJECT;
use super::super::{Config, PodAddresses, Redirect, Role, links};
use crate::sys::mount::BPFFS;
use crate::sys::netns::Netns;

pub(super) const POD_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
pub(super) const POD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1));
pub(super) const OUTSIDE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2));
pub(super) const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2));

/// No wait for a condition takes longer, unless something is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Destinations of each kind, with nothing behind them: only a captured connection gets an answer.
pub(super) const NOWHERE: [&str; 3] = ["192.0.2.7:80", "[2001:db8::7]:80", "[::ffff:192.0.2.7]:8080"];

/// A network namespace that is removed at the end.
pub(super) struct Space {
    name: String,
    pub(super) netns: Netns,
}

impl Space {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sotto-r{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let netns = Netns::open(&Path::new("/run/netns").join(&name)).unwrap();
        let space = Self { name, netns };
        space.ip(&["link", "set", "lo", "up"]);
        space
    }

    pub(super) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.name.as_str()], arguments].concat());
    }

    /// Sets a sysctl of the namespace.
    pub(super) fn sysctl(&self, name: &str, value: &str) {
        assert!(self.try_sysctl(name, value), "{name} cannot be set");
    }

    /// The same, where the namespace may have none of its own.
    pub(super) fn try_sysctl(&self, name: &str, value: &str) -> bool {
        let argument = format!("{name}={value}");
        let output = Command::new("ip").args(["netns", "exec", &self.name, "sysctl", "-qw", &argument]).output();
        output.unwrap().status.success()
    }

    pub(super) fn run<T>(&self, action: impl FnOnce() -> T) -> T {
        self.netns.run(action).unwrap()
    }

    pub(super) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&to, PATIENCE))
    }

    /// Listens; `accept` waits for a while.
    pub(super) fn listen(&self, on: SocketAddr) -> TcpListener {
        self.run(|| TcpListener::bind(on)).unwrap()
    }

    /// Listens as one of several on the same address.
    pub(super) fn listen_shared(&self, on: SocketAddr) -> TcpListener {
        let socket = self.socket(on);
        socket.set_reuse_port(true).unwrap();
        socket.bind(&on.into()).unwrap();
        socket.listen(64).unwrap();
        socket.into()
    }

    pub(super) fn has_socket_in_fin_wait_1(&self) -> bool {
        let tables =
            self.run(|| ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}"))));
        // The fourth column is the state, in hexadecimal.
        tables.into_iter().any(|table| table.unwrap().lines().any(|line| line.split_whitespace().nth(3) == Some("04")))
    }

    pub(super) fn socket(&self, like: SocketAddr) -> Socket {
        self.run(|| Socket::new(Domain::for_address(like), Type::STREAM, Some(Protocol::TCP))).unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A pod, its outside, and a place for pins; nothing is loaded.
pub(super) struct Lab {
    pub(super) config: Config,
    pub(super) pod: Space,
    pub(super) outside: Space,
}

impl Lab {
    /// `None`, with a word about it, where there can be none.
    pub(super) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        if OBJECT.is_empty() {
            eprintln!("skipped: this binary was built without its eBPF programs");
            return None;
        }
        let name = format!("test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config =
            Config { pin_dir: PathBuf::from(BPFFS).join("sotto").join(name), ..Config::for_node("overwritten") };
        let lab = Self { config, pod: Space::new(), outside: Space::new() };
        lab.pod.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &lab.outside.name]);
        for (space, v4, v6) in [(&lab.pod, POD_V4, POD_V6), (&lab.outside, OUTSIDE_V4, OUTSIDE_V6)] {
            space.ip(&["address", "add", &format!("{v4}/24"), "dev", "eth0"]);
            space.ip(&["address", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
            space.ip(&["link", "set", "eth0", "up"]);
        }
        Some(lab)
    }

    pub(super) fn load(&self) -> Redirect {
        Redirect::load(&self.config).unwrap()
    }

    /// Loads, and enrols the pod with both its addresses; nobody listens yet.
    pub(super) fn load_and_enrol(&self) -> Redirect {
        let mut redirect = self.load();
        redirect.attach_pod(&self.pod.netns).unwrap();
        redirect.enrol(self.pod.netns.cookie(), &addresses()).unwrap();
        redirect
    }

    /// A listener for a role on each of the pod's addresses.
    pub(super) fn serve(&self, redirect: &mut Redirect, role: Role) -> Agent {
        let v4 = self.pod.listen("127.0.0.1:0".parse().unwrap());
        let v6 = self.pod.listen("[::1]:0".parse().unwrap());
        redirect.listen(POD_V4, role, &v4).unwrap();
        redirect.listen(POD_V6, role, &v6).unwrap();
        Agent { v4, v6 }
    }
}

impl Lab {
    /// Ends the pod; what is left has another, idle one in its place.
    pub(super) fn without_pod(mut self) -> Self {
        self.pod = Space::new();
        self
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = links::remove_tree(&self.config.pin_dir);
    }
}

/// The agent's two listeners of one role.
pub(super) struct Agent {
    pub(super) v4: TcpListener,
    pub(super) v6: TcpListener,
}

impl Agent {
    /// Accepts a connection of the family that a connection to `destination` has on the wire.
    pub(super) fn accept(&self, destination: SocketAddr) -> (TcpStream, SocketAddr) {
        accept(if destination.ip().to_canonical().is_ipv4() { &self.v4 } else { &self.v6 })
    }
}

pub(super) fn addresses() -> PodAddresses {
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (POD_V4, POD_V6) else { unreachable!() };
    PodAddresses::new(Some(v4), Some(v6))
}

/// Accepts, or panics when nothing comes.
pub(super) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).unwrap();
    let accepted = eventually("a connection", || match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        accepted => Some(accepted.unwrap()),
    });
    accepted.0.set_nonblocking(false).unwrap();
    accepted.0.set_read_timeout(Some(PATIENCE)).unwrap();
    accepted
}

/// Waits for a condition.
pub(super) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "no sign of {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// How many captured connections wait to be accepted.
pub(super) fn waiting(redirect: &Redirect) -> usize {
    redirect.original_destinations.keys().map(Result::unwrap).count()
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
