//! How the data path asks for a verdict: it has just let such a connection in, so others like it may go directly.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::mesh::local::LocalPod;

/// Two pods of this node, and the address at which one serves the other.
#[derive(Debug)]
pub struct Ask {
    /// The client.
    pub source: Arc<LocalPod>,
    /// The server.
    pub destination: Arc<LocalPod>,
    /// Where it serves.
    pub address: SocketAddr,
}

/// Who asks. What finds no room is not asked: the next connection asks again.
#[derive(Clone, Debug)]
pub struct Asker(Option<mpsc::Sender<Ask>>);

/// Questions that may wait.
const WAITING: usize = 1024;

/// The two ends of the questions' way.
#[must_use]
pub fn channel() -> (Asker, mpsc::Receiver<Ask>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Asker(Some(sender)), receiver)
}

impl Asker {
    /// One that asks nobody: everything is relayed.
    #[must_use]
    pub fn silent() -> Self {
        Self(None)
    }

    /// Asks whether connections like this one may go directly.
    pub fn ask(&self, source: &Arc<LocalPod>, destination: &Arc<LocalPod>, address: SocketAddr) {
        let Some(sender) = &self.0 else { return };
        let ask = Ask { source: Arc::clone(source), destination: Arc::clone(destination), address };
        // Full, or the agent is ending.
        let _not_asked = sender.try_send(ask);
    }
}
