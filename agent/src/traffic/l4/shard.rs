//! One data-plane thread: accepts what the redirection hands over and runs each connection to its end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::admission::Admissions;
use super::context::Context;
use super::live::{self, Look};
use super::peers::{Limits, Peers};
use super::pod::{Accepted, Described, ONE_SOCKET, PodShard};
use super::{inbound, outbound, plaintext, record};
use crate::mesh::local::{Listeners, LocalPod};
use crate::mesh::upstream::pool::Pool;
use crate::model::address::canonical;
use crate::runtime::rate::RateLimit;
use crate::runtime::tasks::LocalTasks;
use crate::telemetry::metrics::Refused;

/// What a thread can be asked for.
#[derive(Debug)]
pub enum Command {
    /// To serve one more pod.
    Serve(Serve),
    /// To show what it carries.
    Look(Look),
}

/// A pod whose connections a thread is to carry from now on, until the pod's drain begins.
#[derive(Debug)]
pub struct Serve {
    /// The pod.
    pub pod: Arc<LocalPod>,
    /// This thread's listeners of the pod.
    pub listeners: Listeners,
    /// Hears whether the thread accepts the pod's connections now.
    pub begun: oneshot::Sender<io::Result<()>>,
}

/// What a connection holds that the pod made, or that came in plain text: two sockets. Both are asked for when it is accepted, so
/// that nothing is accepted that cannot be carried.
const TWO_SOCKETS: usize = 2;

/// What the state of a connection may weigh, in bytes, whether it is used or idle: what is large and rarely needed gets a box.
const LARGEST_CONNECTION: usize = 12 * 1024;

/// A few new connections per turn: what is asked for them goes out together, and a flood of them leaves the thread to those that are
/// there, and to other pods.
const ACCEPTED_IN_A_TURN: usize = 8;

/// Out of descriptors or memory, accepting again at once would spin.
const PAUSE_AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

static ACCEPT_ERRORS: RateLimit = RateLimit::new(5, Duration::from_secs(10));
/// Runs one thread's share of the data plane until the commands end and the last connection has.
pub async fn run(context: Arc<Context>, commands: mpsc::UnboundedReceiver<Command>) {
    let admissions = Admissions::new(context.mesh.clone());
    let metrics = Arc::clone(&context.metrics);
    metrics.threads.watch_this();
    tokio::select! {
        () = serve_pods(context, commands, Rc::clone(&admissions)) => {}
        () = admissions.follow() => {}
        () = record::keep_reporting(&metrics) => {}
    }
}

async fn serve_pods(context: Arc<Context>, mut commands: mpsc::UnboundedReceiver<Command>, admissions: Rc<Admissions>) {
    let alive = context.metrics.node.tasks.clone();
    let tasks = LocalTasks::new(move |change| {
        alive.inc_by(change);
    });
    while let Some(command) = commands.recv().await {
        let Serve { pod, listeners, begun } = match command {
            Command::Serve(serve) => serve,
            Command::Look(look) => {
                live::look(look);
                continue;
            }
        };
        let pool = Pool::new(Arc::clone(&pod), context.pool.clone(), tasks.clone());
        let peers = Peers::new(Limits::default());
        let (context, admissions) = (Arc::clone(&context), Rc::clone(&admissions));
        let described = Described::default();
        let shard = Rc::new(PodShard { context, pod, pool, peers, tasks: tasks.clone(), admissions, described });
        // Who asked may have given up; the pod's drain says what becomes of what was begun.
        let _given_up = begun.send(serve(&shard, listeners));
    }
    tasks.wait().await;
}

fn serve(shard: &Rc<PodShard>, listeners: Listeners) -> io::Result<()> {
    let Listeners { outbound, plaintext, hbone } = listeners;
    let outbound = TcpListener::from_std(outbound)?;
    let plaintext = TcpListener::from_std(plaintext)?;
    let hbone = TcpListener::from_std(hbone)?;
    shard.tasks.spawn(accept_loop(Rc::clone(shard), outbound, TWO_SOCKETS, outbound::handle));
    shard.tasks.spawn(accept_loop(Rc::clone(shard), plaintext, TWO_SOCKETS, plaintext::handle));
    shard.tasks.spawn(accept_loop(Rc::clone(shard), hbone, ONE_SOCKET, inbound::handle));
    Ok(())
}

async fn accept_loop<F>(
    shard: Rc<PodShard>,
    listener: TcpListener,
    descriptors: usize,
    handle: impl Fn(Rc<PodShard>, Accepted) -> F + Copy + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let drain = shard.pod.drain.clone();
    let mut in_turn = 0;
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    match shard.pod.shares.descriptors.take(descriptors) {
                        Ok(permit) => start(&shard, Accepted { socket, peer: canonical(peer), at: Instant::now(), permit }, handle),
                        Err(exhausted) => shard.refused(canonical(peer), Refused::Descriptors, &exhausted),
                    }
                    in_turn += 1;
                    if in_turn == ACCEPTED_IN_A_TURN {
                        in_turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
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

fn start<F>(shard: &Rc<PodShard>, accepted: Accepted, handle: impl Fn(Rc<PodShard>, Accepted) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let drain = shard.pod.drain.clone();
    // Boxed: a future that is moved into another is kept twice in it, once as what came in and once as what is awaited.
    let connection = Box::pin(handle(Rc::clone(shard), accepted));
    let size = size_of_val(&*connection);
    debug_assert!(size <= LARGEST_CONNECTION, "a connection's future has {size} bytes");
    shard.tasks.spawn(async move {
        tokio::select! {
            () = connection => {}
            () = drain.ended() => {}
        }
    });
}

fn log_accept_error(pod: &LocalPod, error: &io::Error) {
    if let Some(suppressed) = ACCEPT_ERRORS.allow(Instant::now()) {
        tracing::warn!(pod = %pod.name, %error, suppressed, "a connection of this pod waits, since it cannot be accepted; is the agent's limit of open files too low?");
    }
}
