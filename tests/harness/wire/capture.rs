//! tcpdump on one interface, from the moment it listens to a moment after which nothing is missing.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::marker::Marker;
use super::pcap;
use super::view::Wire;
use crate::mesh::Shared;
use crate::netns::Netns;
use crate::process::Process;
use crate::wait::{DEADLINE, eventually};

/// Longer than any frame, also one that is segmented only later.
const SNAPSHOT: &str = "70000";

/// The kernel's buffer in KiB.
const BUFFER: &str = "65536";

/// A capture that is running.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Arc<Process>,
    file: PathBuf,
    netns: Arc<Netns>,
    beacon: SocketAddr,
}

impl Capture {
    /// Starts tcpdump on `interface` in `netns` and waits until it listens. A datagram sent to `beacon` must cross the
    /// interface.
    pub(crate) fn start(
        mesh: &Shared,
        (netns, interface): (&Arc<Netns>, &str),
        beacon: SocketAddr,
        file: PathBuf,
    ) -> Self {
        let mut command = Command::new("tcpdump");
        command.args([
            "-i",
            interface,
            "-n",
            "-U",
            "--immediate-mode",
            "-s",
            SNAPSHOT,
            "-B",
            BUFFER,
            "-Z",
            "root",
            "-w",
        ]);
        let log = file.with_extension("log");
        let tcpdump = mesh.start("tcpdump", netns, command.arg(&file), &log);
        eventually(DEADLINE, "tcpdump listens", || {
            assert!(tcpdump.is_running(), "tcpdump ended: {}", tcpdump.log());
            tcpdump.log().contains("listening on").then_some(())
        });
        Self { tcpdump, file, netns: Arc::clone(netns), beacon }
    }

    /// Everything that was on the wire up to this call; the capture goes on.
    ///
    /// # Panics
    /// When tcpdump does not see what is sent to it.
    #[must_use]
    pub fn so_far(&self) -> Wire {
        // Frames keep their order, so once a beacon is in the file, everything before it is.
        let beacon = Marker::new();
        let sent = self.netns.run(|| {
            let any = if self.beacon.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any).and_then(|socket| socket.send_to(beacon.as_ref(), self.beacon))
        });
        sent.unwrap_or_else(|error| panic!("cannot send to {}: {error}", self.beacon));
        let bytes = eventually(DEADLINE, "the beacon is in the capture", || {
            let bytes = fs::read(&self.file).ok()?;
            bytes.windows(beacon.as_str().len()).any(|w| w == beacon.as_ref()).then_some(bytes)
        });
        let frames = pcap::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        Wire::new(frames, self.beacon)
    }

    /// Ends the capture.
    ///
    /// # Panics
    /// When the kernel dropped a frame: then the capture proves nothing.
    #[must_use]
    pub fn stop(self) -> Wire {
        let wire = self.so_far();
        self.tcpdump.signal(Signal::SIGINT);
        eventually(Duration::from_secs(5), "tcpdump ends", || (!self.tcpdump.is_running()).then_some(()));
        let log = self.tcpdump.log();
        assert!(log.contains("\n0 packets dropped by kernel"), "the capture is incomplete: {log}");
        wire
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.tcpdump.kill();
    }
}
