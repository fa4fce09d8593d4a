//! The signals that end a process in order.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT. Listened for from the start to the end: one that comes while nobody waits for it counts for the next who
/// does.
#[derive(Debug)]
pub(super) struct EndingSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndingSignals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
