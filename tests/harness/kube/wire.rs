//! What crosses the network between the cluster's nodes.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::cluster::Cluster;
use crate::wait::{DEADLINE, eventually};
use crate::wire::{Marker, Wire, read_pcap};

/// The bridge that all nodes are at, on this machine.
const BRIDGE: &str = "sotto-k8s";

/// A running capture of all frames between nodes.
#[derive(Debug)]
pub struct ClusterCapture {
    tcpdump: Child,
    directory: TempDir,
    beacon: SocketAddr,
}

impl Cluster {
    /// Starts a capture and waits until it sees what crosses.
    ///
    /// # Panics
    /// When tcpdump cannot be started or sees nothing.
    #[must_use]
    pub fn capture(&self) -> ClusterCapture {
        let node = self.nodes().first().expect("a cluster has nodes").ip;
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let file = directory.path().join("wire.pcap");
        let tcpdump = Command::new("tcpdump")
            .args(["-i", BRIDGE, "-n", "-U", "--immediate-mode", "-s", "70000", "-B", "65536", "-Z", "root", "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tcpdump is installed");
        // Discard: nobody listens there.
        let capture = ClusterCapture { tcpdump, directory, beacon: SocketAddr::new(node, 9) };
        capture.seen();
        capture
    }
}

impl ClusterCapture {
    fn file(&self) -> PathBuf {
        self.directory.path().join("wire.pcap")
    }

    /// The file, once everything that has crossed before is in it.
    fn seen(&self) -> Vec<u8> {
        let beacon = Marker::new();
        eventually(DEADLINE, "the beacon is in the capture", || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket can be made");
            socket.send_to(beacon.as_ref(), self.beacon).expect("the node is reached");
            let bytes = fs::read(self.file()).ok()?;
            bytes.windows(beacon.as_str().len()).any(|window| window == beacon.as_ref()).then_some(bytes)
        })
    }

    /// Ends the capture.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn stop(self) -> Wire {
        let frames = read_pcap(&self.seen()).unwrap_or_else(|error| panic!("the capture cannot be read: {error}"));
        Wire::new(frames, self.beacon)
    }
}

impl Drop for ClusterCapture {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.tcpdump.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.tcpdump.wait();
    }
}
