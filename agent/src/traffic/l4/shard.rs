//! One data-plane thread: accepts what the redirection hands over and runs each connection to its end.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::admission::Admissions;
use super::context::Context;
use super::{inbound, outbound, plaintext};
use crate::mesh::local::{Listeners, LocalPod};
use crate::mesh::upstream::pool::Pool;
use crate::model::address::canonical;
use crate::runtime::rate::RateLimit;
use crate::runtime::tasks::LocalTasks;

/// A pod whose connections a thread is to carry from now on, until the pod's drain begins.
#[derive(Debug)]
pub struct Serve {
    /// The pod.
    pub pod: Arc<LocalPod>,
    /// This thread's listeners of the pod.
    pub listeners: Listeners,
}

/// What the connections of one pod on one thread share.
pub struct PodShard {
    /// What all connections share.
    pub context: Arc<Context>,
    /// The pod.
    pub pod: Arc<LocalPod>,
    /// The pod's tunnels to others.
    pub pool: Rc<Pool>,
    /// The thread's tasks.
    pub tasks: LocalTasks,
    /// The thread's connections into pods of this node, whichever pod they come from.
    pub admissions: Rc<Admissions>,
}

/// Out of descriptors or memory, accepting again at once would spin.
const PAUSE_AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

static ACCEPT_ERRORS: RateLimit = RateLimit::new(5, Duration::from_secs(10));

/// Runs one thread's share of the data plane until the commands end and the last connection has.
pub async fn run(context: Arc<Context>, commands: mpsc::UnboundedReceiver<Serve>) {
    let admissions = Admissions::new(context.mesh.clone());
    tokio::select! {
        () = serve_pods(context, commands, Rc::clone(&admissions)) => {}
        () = admissions.follow() => {}
    }
}

async fn serve_pods(context: Arc<Context>, mut commands: mpsc::UnboundedReceiver<Serve>, admissions: Rc<Admissions>) {
    let tasks = LocalTasks::new();
    while let Some(Serve { pod, listeners }) = commands.recv().await {
        let pool = Pool::new(Arc::clone(&pod), context.pool.clone(), tasks.clone());
        let (context, admissions) = (Arc::clone(&context), Rc::clone(&admissions));
        let shard = Rc::new(PodShard { context, pod, pool, tasks: tasks.clone(), admissions });
        if let Err(error) = serve(&shard, listeners) {
            tracing::error!(pod = %shard.pod.name, %error, "cannot serve a pod on this thread");
        }
    }
    tasks.wait().await;
}

fn serve(shard: &Rc<PodShard>, listeners: Listeners) -> io::Result<()> {
    let Listeners { outbound, plaintext, hbone } = listeners;
    let outbound = TcpListener::from_std(outbound)?;
    let plaintext = TcpListener::from_std(plaintext)?;
    let hbone = TcpListener::from_std(hbone)?;
    shard.tasks.spawn(accept_loop(Rc::clone(shard), outbound, outbound::handle));
    shard.tasks.spawn(accept_loop(Rc::clone(shard), plaintext, plaintext::handle));
    shard.tasks.spawn(accept_loop(Rc::clone(shard), hbone, inbound::handle));
    Ok(())
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub socket: TcpStream,
    /// Who connected, in canonical form.
    pub peer: SocketAddr,
    /// When.
    pub at: Instant,
}

async fn accept_loop<F>(
    shard: Rc<PodShard>,
    listener: TcpListener,
    handle: impl Fn(Rc<PodShard>, Accepted) -> F + Copy + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let drain = shard.pod.drain.clone();
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => start(&shard, socket, peer, handle),
                Err(error) => {
                    log_accept_error(&shard.pod, &error);
                    tokio::time::sleep(PAUSE_AFTER_ACCEPT_ERROR).await;
                }
            },
            // What was already in the listener's queue has been accepted first: no connection is lost by leaving.
            () = drain.begun() => break,
        }
    }
}

fn start<F>(
    shard: &Rc<PodShard>,
    socket: TcpStream,
    peer: SocketAddr,
    handle: impl Fn(Rc<PodShard>, Accepted) -> F + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let drain = shard.pod.drain.clone();
    let connection = handle(Rc::clone(shard), Accepted { socket, peer: canonical(peer), at: Instant::now() });
    shard.tasks.spawn(async move {
        tokio::select! {
            () = connection => {}
            () = drain.ended() => {}
        }
    });
}

fn log_accept_error(pod: &LocalPod, error: &io::Error) {
    if let Some(suppressed) = ACCEPT_ERRORS.allow(Instant::now()) {
        tracing::warn!(pod = %pod.name, %error, suppressed, "cannot accept a connection; is the limit of open files too low?");
    }
}
