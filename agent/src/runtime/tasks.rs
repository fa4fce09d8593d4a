//! Tasks that somebody waits for. Nothing in the agent runs detached.

use std::future::Future;

use tokio_util::task::TaskTracker;

/// A set of tasks on the current thread; whoever holds it can wait until the last has ended.
#[derive(Clone, Debug, Default)]
pub struct LocalTasks(TaskTracker);

impl LocalTasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task on this thread. Must be called inside a `LocalSet`.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let _joined_through_the_tracker = self.0.spawn_local(task);
    }

    /// How many tasks are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no task is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Completes when no task is under way any more.
    pub async fn wait(&self) {
        self.0.close();
        self.0.wait().await;
        self.0.reopen();
    }
}
