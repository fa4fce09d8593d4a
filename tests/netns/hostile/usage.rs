//! What an agent holds of its machine, before and after.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Agent, Site};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

/// How long an agent may take to let go of what is no longer needed: a peer that is silent is given up after 30 s.
const SETTLE: Duration = Duration::from_secs(60);

/// One reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Tasks of the data plane.
    pub(crate) tasks: usize,
    /// Entries in all maps.
    pub(crate) entries: usize,
    /// Resident memory in KiB.
    pub(crate) memory: usize,
}

impl Usage {
    pub(crate) fn of(agent: &Agent) -> Self {
        let process = PathBuf::from(format!("/proc/{}", agent.pid()));
        let descriptors = fs::read_dir(process.join("fd")).expect("the agent runs").count();
        let status = fs::read_to_string(process.join("status")).expect("the agent runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        Self {
            descriptors,
            tasks: agent.metrics().sum("sotto_tasks", &[]) as usize,
            entries: entries(agent),
            memory: memory.expect("the kernel says how much memory a process has"),
        }
    }

    /// Waits until an agent holds no more than this, save `tunnels` that may stay open for a while: a descriptor and a task each.
    /// Returns the reading that did.
    #[track_caller]
    pub(crate) fn wait_back(&self, agent: &Agent, tunnels: usize) -> Self {
        let end = Instant::now() + SETTLE;
        loop {
            let now = Self::of(agent);
            let back = now.descriptors <= self.descriptors + tunnels
                && now.tasks <= self.tasks + tunnels
                && now.entries <= self.entries;
            if back {
                return now;
            }
            let node = agent.node();
            assert!(
                Instant::now() < end,
                "after {SETTLE:?} the agent of {node} holds {now:?}, before {self:?}, {tunnels} tunnels"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn entries(agent: &Agent) -> usize {
    let versions = fs::read_dir(agent.pins()).into_iter().flatten().flatten();
    let maps = versions.flat_map(|version| fs::read_dir(version.path()).into_iter().flatten().flatten());
    let hashes = ["PODS", "ORIGINAL_DESTINATIONS", "ADMITTED_FLOWS", "LISTENERS"];
    maps.filter(|map| hashes.iter().any(|hash| map.file_name() == *hash))
        .map(|map| {
            let output = Command::new("bpftool").args(["map", "dump", "pinned"]).arg(map.path()).output();
            let output = output.expect("bpftool is installed");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // As text: `Found 3 elements`. With type information: JSON, one "key" each.
            let found = text.lines().find_map(|line| line.strip_prefix("Found ")?.split(' ').next()?.parse().ok());
            found.unwrap_or_else(|| text.matches("\"key\"").count())
        })
        .sum()
}

/// Lets this process open as many files as it likes, and agents that it starts from now on.
pub(crate) fn raise_own_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process has limits");
    let wanted = hard.max(200_000);
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may be raised");
    }
}

/// Serves connections that do nothing: one byte says that the application has them. One thread for all of them; it ends with the
/// test's process.
pub(crate) fn serve_idle(site: &Site, port: u16) {
    let socket = site.netns().run(|| Socket::new(Domain::IPV6, Type::STREAM, None)).expect("a socket can be made");
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()).expect("the port is free");
    socket.listen(4096).expect("a bound socket can listen");
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true).expect("a socket takes options");
    thread::spawn(move || {
        let mut open = Vec::new();
        loop {
            while let Ok((mut stream, _)) = listener.accept() {
                if stream.write_all(b"k").is_ok() && stream.set_nonblocking(true).is_ok() {
                    open.push(stream);
                }
            }
            open.retain(
                |mut stream| matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock),
            );
            thread::sleep(Duration::from_millis(if open.is_empty() { 1 } else { 5 }));
        }
    });
}

/// Makes closing a reset: the port is free again at once, and not after TIME_WAIT.
pub(crate) fn reset_when_dropped(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket takes linger");
}

/// Opens connections to [`serve_idle`] and returns those that its application has.
pub(crate) fn crowd(site: &Site, to: SocketAddr, number: usize) -> Vec<TcpStream> {
    let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(30));
    let dial = |number| site.netns().run(|| (0..number).filter_map(|_| connect().ok()).collect::<Vec<_>>());
    dial(number).into_iter().filter(is_carried).collect()
}

fn is_carried(stream: &TcpStream) -> bool {
    let mut stream = stream;
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket takes a timeout");
    stream.read_exact(&mut [0; 1]).is_ok()
}
