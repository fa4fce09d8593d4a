//! Data-plane threads: each runs its own single-threaded runtime, and a connection lives on one of them from accept to close.
//!
//! A multi-threaded runtime would move connections between cores; measured, its wake-ups cost a fifth of all requests.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// The way to talk to the data-plane threads. A thread ends when this is gone and its last connection has ended.
#[derive(Debug)]
pub struct Commands<C>(Vec<mpsc::UnboundedSender<C>>);

/// A way to ask the data-plane threads that does not keep them from ending.
#[derive(Debug)]
pub struct Questions<C>(Vec<mpsc::WeakUnboundedSender<C>>);

/// The running data-plane threads.
#[derive(Debug)]
pub struct Threads(Vec<JoinHandle<()>>);

/// Starts `count` threads; each runs the future that `body` makes from its commands until that ends.
///
/// # Errors
/// When a thread or its runtime cannot be made.
pub fn start<C, F, B>(count: usize, body: B) -> io::Result<(Commands<C>, Threads)>
where
    C: Send + 'static,
    B: Fn(mpsc::UnboundedReceiver<C>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let (mut senders, mut threads) = (Vec::new(), Vec::new());
    for number in 0..count {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, commands) = mpsc::unbounded_channel();
        let body = body.clone();
        let run = move || LocalSet::new().block_on(&runtime, body(commands));
        threads.push(thread::Builder::new().name(format!("data-{number}")).spawn(run)?);
        senders.push(sender);
    }
    Ok((Commands(senders), Threads(threads)))
}

impl<C> Commands<C> {
    /// Sends one command to each thread, in order.
    pub fn send_each(&self, commands: impl IntoIterator<Item = C>) {
        for (sender, command) in self.0.iter().zip(commands) {
            // A thread that has ended has nothing left to serve.
            let _ended = sender.send(command);
        }
    }
}

impl<C> Commands<C> {
    /// See [`Questions`].
    #[must_use]
    pub fn questions(&self) -> Questions<C> {
        Questions(self.0.iter().map(mpsc::UnboundedSender::downgrade).collect())
    }
}

impl<C> Questions<C> {
    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.len()
    }

    /// Asks one thread. What it gets is dropped if the thread is ending.
    pub fn ask(&self, thread: usize, question: C) {
        if let Some(sender) = self.0.get(thread).and_then(mpsc::WeakUnboundedSender::upgrade) {
            let _ended = sender.send(question);
        }
    }
}

impl Threads {
    /// Waits for all threads to end. Blocks.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a data-plane thread panicked");
            }
        }
    }
}
