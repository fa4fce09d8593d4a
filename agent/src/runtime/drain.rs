//! Drain, passed as an argument: stop taking new work first, end the old by a deadline.
//!
//! A drain is a tree: the process drains all pods, a pod drains its listeners and tunnels.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells its holders to wind down. Cheap to clone; clones are the same drain, children follow their parent.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stop: CancellationToken,
    end: CancellationToken,
}

impl Drain {
    /// A drain of its own, not yet begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain that begins and ends with this one, or earlier.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), end: self.end.child_token() }
    }

    /// Take no new work; what is under way goes on.
    pub fn begin(&self) {
        self.stop.cancel();
    }

    /// End what is under way, too.
    pub fn end(&self) {
        self.stop.cancel();
        self.end.cancel();
    }

    /// Begins the drain and ends it when `done` completes or `deadline` has passed. Returns whether `done` came first.
    pub async fn run(&self, deadline: Duration, done: impl Future<Output = ()>) -> bool {
        self.begin();
        let in_time = tokio::time::timeout(deadline, done).await.is_ok();
        self.end();
        in_time
    }

    /// Completes once new work is no longer wanted.
    pub async fn begun(&self) {
        self.stop.cancelled().await;
    }

    /// Completes once everything has to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Whether everything has to have ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end.is_cancelled()
    }

    /// Whether new work is no longer wanted.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn children_follow_but_do_not_lead() {
        let parent = Drain::new();
        let child = parent.child();
        child.begin();
        assert!(child.has_begun() && !parent.has_begun());
        let other = parent.child();
        parent.end();
        other.begun().await;
        other.ended().await;
        child.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_what_does_not_finish() {
        let drain = Drain::new();
        assert!(!drain.run(Duration::from_secs(5), std::future::pending()).await);
        drain.ended().await;
        assert!(Drain::new().run(Duration::from_secs(5), async {}).await);
    }
}
