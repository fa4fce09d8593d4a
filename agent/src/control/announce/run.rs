//! Writes what is to be written, at a bearable pace, for as long as the agent runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;

use super::decide::{Complaints, Marking, marked, markings};
use crate::control::enroll::status::EnrolmentStatus;
use crate::drivers::cluster::ApiError;
use crate::drivers::cluster::pods::{Event, PodWriter};
use crate::mesh::source::convert::annotations::{REDIRECTION, REDIRECTION_ENABLED};
use crate::mesh::source::state::MeshState;
use crate::runtime::rate::RateLimit;

/// How often everything is compared anew.
const LOOK: Duration = Duration::from_secs(1);

/// How long something that was written may take to come back through the watch, and something that failed to be tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an agent that leaves for good takes to say so.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Tells the cluster about this node's pods.
pub struct Announcer {
    writer: PodWriter,
    node: Arc<str>,
    mesh: watch::Receiver<Arc<MeshState>>,
    enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
    complaints: Complaints,
    /// What was written of late, by UID.
    written: BTreeMap<String, (bool, Instant)>,
    events: RateLimit,
    serial: u64,
    troubled: bool,
}

impl Announcer {
    /// Somebody who tells what these say about `node`.
    #[must_use]
    pub fn new(
        writer: PodWriter,
        node: Arc<str>,
        mesh: watch::Receiver<Arc<MeshState>>,
        enrolment: watch::Receiver<Arc<EnrolmentStatus>>,
    ) -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            writer,
            node,
            mesh,
            enrolment,
            complaints: Complaints::default(),
            written: BTreeMap::new(),
            events: RateLimit::new(20, Duration::from_secs(5)),
            // Names of Events must not come again after a restart.
            serial: u64::try_from(started.as_millis()).unwrap_or(u64::MAX) << 16,
            troubled: false,
        }
    }

    /// Tells until `stop`, and then, if the agent is `leaving` for good, that no pod is carried any more.
    pub async fn run(mut self, stop: impl Future<Output = ()>, leaving: impl FnOnce() -> bool) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.round() => {}
            }
        }
        if leaving() && timeout(LAST_WORDS, self.take_leave()).await.is_err() {
            tracing::warn!("annotations of pods that are no longer carried could not all be removed in time");
        }
    }

    async fn round(&mut self) {
        let (state, status) =
            (Arc::clone(&self.mesh.borrow_and_update()), Arc::clone(&self.enrolment.borrow_and_update()));
        let now = Instant::now();
        self.written.retain(|_, (_, at)| now.saturating_duration_since(*at) < PATIENCE);
        for marking in markings(&state, &status, &self.node) {
            let known = self.written.get(&marking.pod.uid).is_some_and(|(on, _)| *on == marking.on);
            if !known {
                self.mark(marking).await;
            }
        }
        for (pod, message) in self.complaints.due(&status, now) {
            if self.events.allow(now).is_none() {
                continue;
            }
            self.serial += 1;
            let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let message = format!("cannot join the mesh yet: {message}");
            let event = Event { pod, reason: "MeshEnrolmentFailed", message, at, serial: self.serial };
            let result = self.writer.warn(&event).await;
            self.note(result.err());
        }
        tokio::select! {
            Ok(()) = self.mesh.changed() => {}
            Ok(()) = self.enrolment.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }

    async fn mark(&mut self, Marking { pod, on }: Marking) {
        self.written.insert(pod.uid.clone(), (on, Instant::now()));
        let value = on.then_some(REDIRECTION_ENABLED);
        let result = self.writer.annotate(&pod, REDIRECTION, value).await;
        self.note(result.err());
    }

    async fn take_leave(&mut self) {
        let state = Arc::clone(&self.mesh.borrow());
        for pod in marked(&state) {
            self.mark(Marking { pod, on: false }).await;
        }
    }

    /// Logs the first failure after a success.
    fn note(&mut self, error: Option<ApiError>) {
        match error {
            None => self.troubled = false,
            Some(error) if !std::mem::replace(&mut self.troubled, true) => {
                tracing::warn!(%error, "the cluster cannot be told what became of pods; trying again");
            }
            Some(_) => {}
        }
    }
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("node", &self.node).finish_non_exhaustive()
    }
}
