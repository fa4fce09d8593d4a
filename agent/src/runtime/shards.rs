//! Data-plane threads: each runs its own single-threaded runtime, and a connection lives on one of them from accept to close.
//!
//! A multi-threaded runtime would move connections between cores; measured, its wake-ups cost a fifth of all requests.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// The running data-plane threads and the way to talk to them.
#[derive(Debug)]
pub struct Shards<C> {
    senders: Vec<mpsc::UnboundedSender<C>>,
    threads: Vec<JoinHandle<()>>,
}

impl<C: Clone + Send + 'static> Shards<C> {
    /// Starts `count` threads; each runs the future that `body` makes from its number and its commands until that ends.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start<F, B>(count: usize, body: B) -> io::Result<Self>
    where
        B: Fn(usize, mpsc::UnboundedReceiver<C>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let mut shards = Self { senders: Vec::new(), threads: Vec::new() };
        for number in 0..count {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (sender, commands) = mpsc::unbounded_channel();
            let body = body.clone();
            let run = move || LocalSet::new().block_on(&runtime, body(number, commands));
            shards.threads.push(thread::Builder::new().name(format!("data-{number}")).spawn(run)?);
            shards.senders.push(sender);
        }
        Ok(shards)
    }

    /// How many threads there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Sends a command to each thread; `make` gets the thread's number.
    pub fn send_each(&self, mut make: impl FnMut(usize) -> C) {
        for (number, sender) in self.senders.iter().enumerate() {
            // A thread that has ended has nothing left to serve.
            let _ended = sender.send(make(number));
        }
    }

    /// Tells the threads that no command will follow, and waits for them to end.
    pub fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data-plane thread panicked");
            }
        }
    }
}
