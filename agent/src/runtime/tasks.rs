//! Tasks that somebody waits for. Nothing in the agent runs detached.

use std::fmt;
use std::future::Future;
use std::rc::Rc;

use tokio_util::task::TaskTracker;

/// A set of tasks on the current thread; whoever holds it can wait until the last has ended.
#[derive(Clone)]
pub struct LocalTasks {
    tracker: TaskTracker,
    changed: Rc<dyn Fn(i64)>,
}

/// Tells of a task's end, however it ends.
struct Alive(Rc<dyn Fn(i64)>);

impl LocalTasks {
    /// An empty set, which calls `changed` with 1 for each task that starts and -1 for each that ends.
    #[must_use]
    pub fn new(changed: impl Fn(i64) + 'static) -> Self {
        Self { tracker: TaskTracker::new(), changed: Rc::new(changed) }
    }

    /// Starts a task on this thread. Must be called inside a `LocalSet`.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let alive = Alive::new(&self.changed);
        let _joined_through_the_tracker = self.tracker.spawn_local(async move {
            let _alive = alive;
            task.await;
        });
    }

    /// How many tasks are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Completes when no task is under way any more.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }
}

impl fmt::Debug for LocalTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTasks").field("tracker", &self.tracker).finish_non_exhaustive()
    }
}

impl Alive {
    fn new(changed: &Rc<dyn Fn(i64)>) -> Self {
        changed(1);
        Self(Rc::clone(changed))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        (self.0)(-1);
    }
}
