//! Keeps up with all objects of one kind: which version is served, a list in pages, then a watch, for ever.
//!
//! ```text
//! discover ─ not served ─▶ wait, discover …
//!    └─ version ─▶ list ─ complete ─▶ watch ─ ended ─▶ watch (from where it ended) …
//!                   ▲                   ├─ 410 Gone ─▶ list
//!                   └───────────────────┴─ another refusal ─▶ back-off ─▶ discover
//! ```
//!
//! What was reported stays reported while the API server is away: only a complete list, a deletion or a kind that is gone for good
//! takes objects back.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::client::Cluster;
use super::discovery::served;
use super::error::ApiError;
use super::event::{Event, Lines};
use super::page::{Head, Page, escaped};
use super::resource::Resource;

/// Objects of one page of a list: what is in memory at a time beside what the caller keeps.
const PAGE: usize = 250;

/// How long the server is asked to keep a watch open, plus as much again at random, in seconds.
const WATCH_SECONDS: u64 = 240;

/// A watch that says nothing for so long is taken for dead: a healthy server sends a bookmark every minute.
const SILENCE: Duration = Duration::from_secs(120);

/// A watch that ends sooner than this without a word counts as a failure.
const SHORT: Duration = Duration::from_secs(1);

/// How often a kind that is not served is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// For how long a kind that had objects has to be missing before they count as gone. A server that is starting says 404 of custom
/// resources, and policies must not vanish for that.
const MISSING_FOR_GOOD: Duration = Duration::from_secs(45);

/// Namespace and name of an object; the namespace is empty for kinds that have none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What is to be known of a collection.
#[derive(Debug)]
pub enum Update<T> {
    /// A list begins. What is not seen again before [`Update::Complete`] is gone.
    Restart,
    /// An object as it is now.
    Present(Key, T),
    /// An object is gone.
    Absent(Key),
    /// The list is complete.
    Complete,
    /// The API server does not have this kind (yet); there are no objects.
    NotServed,
    /// Nothing new can be learnt for this reason; none when that is over.
    Trouble(Option<ApiError>),
}

/// One collection that is followed, and to whom it is told.
pub struct Follower<K, T> {
    /// The API server.
    pub cluster: Cluster,
    /// What is followed.
    pub resource: Resource,
    /// What updates are marked with.
    pub tag: K,
    /// Reads an object. Called once per object; nothing of the text is kept.
    pub decode: Box<dyn Fn(&str) -> T + Send + Sync>,
    /// Takes the updates; a full channel slows the reading down.
    pub updates: mpsc::Sender<(K, Update<T>)>,
}

/// Nobody takes the updates any more.
struct Unwanted;

/// Why a step ended without success.
enum Stop {
    Api(ApiError),
    Unwanted,
}

/// Where a follower is.
#[derive(Clone, Debug)]
enum State {
    Discover,
    List(&'static str),
    Watch { served: &'static str, version: String },
}

/// What a follower remembers from step to step.
#[derive(Default)]
struct Memory {
    backoff: Backoff,
    troubled: bool,
    /// Whether objects have been reported, so that there is something to lose.
    listed: bool,
    missing_since: Option<Instant>,
}

impl<K: Copy + Send, T: Send> Follower<K, T> {
    /// Follows until nobody takes the updates any more.
    pub async fn run(self) {
        let mut memory = Memory::default();
        let mut state = State::Discover;
        loop {
            let step = match &state {
                State::Discover => self.discover(&mut memory).await,
                State::List(served) => self.list(served, &mut memory).await,
                State::Watch { served, version } => self.watch(served, version, &mut memory).await,
            };
            match step {
                Ok(next) => state = next,
                Err(Stop::Unwanted) => return,
                Err(Stop::Api(error)) => {
                    state = after(&error, state);
                    let wait = memory.backoff.next(error.retry_after(), fastrand::f64());
                    if self.troubled(error, &mut memory).await.is_err() {
                        return;
                    }
                    sleep(wait).await;
                }
            }
        }
    }

    async fn discover(&self, memory: &mut Memory) -> Result<State, Stop> {
        if let Some(version) = served(&self.cluster, &self.resource).await? {
            memory.missing_since = None;
            return Ok(State::List(version));
        }
        self.recovered(memory).await?;
        let since = *memory.missing_since.get_or_insert_with(Instant::now);
        if !memory.listed || since.elapsed() >= MISSING_FOR_GOOD {
            memory.listed = false;
            self.tell(Update::NotServed).await?;
        }
        sleep(LOOK_AGAIN).await;
        Ok(State::Discover)
    }

    async fn list(&self, served: &'static str, memory: &mut Memory) -> Result<State, Stop> {
        let what = format!("LIST {}", self.resource.plural);
        self.tell(Update::Restart).await?;
        let mut path = format!("{}?limit={PAGE}", self.resource.path(served));
        loop {
            let answer = self.cluster.get(&what, &path).await?;
            let page = Page::read(&what, &answer)?;
            memory.listed = true;
            for item in page.items() {
                self.present(Head::of_object(&what, item)?, item).await?;
            }
            if let Some(token) = page.continuation() {
                path = format!("{}?limit={PAGE}&continue={}", self.resource.path(served), escaped(token));
                continue;
            }
            let version = page.version().ok_or_else(|| ApiError::bad(&what, "it has no resourceVersion"))?.to_owned();
            self.tell(Update::Complete).await?;
            self.recovered(memory).await?;
            return Ok(State::Watch { served, version });
        }
    }

    /// One watch, to its end.
    async fn watch(&self, served: &'static str, version: &str, memory: &mut Memory) -> Result<State, Stop> {
        let what = format!("WATCH {}", self.resource.plural);
        let seconds = WATCH_SECONDS + fastrand::u64(..WATCH_SECONDS);
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.resource.path(served),
            escaped(version)
        );
        let mut version = version.to_owned();
        let mut body = self.cluster.open(&what, &path).await?;
        self.recovered(memory).await?;
        let (opened, mut heard) = (Instant::now(), false);
        let mut lines = Lines::default();
        // An end of the stream, clean or not, is an ordinary thing: the next watch goes on from here.
        while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
            let Some(data) = frame.data_ref() else { continue };
            lines.push(&what, data)?;
            while let Some(line) = lines.next() {
                let event = Event::read(&what, &line)?;
                if !event.version().is_empty() {
                    event.version().clone_into(&mut version);
                }
                match event {
                    Event::Present(head, object) => self.present(head, object).await?,
                    Event::Absent(head) => self.tell(Update::Absent(key(head))).await?,
                    Event::Bookmark(_) => {}
                }
                heard = true;
                memory.backoff.reset();
            }
        }
        if !heard && opened.elapsed() < SHORT {
            sleep(memory.backoff.next(None, fastrand::f64())).await;
        } else {
            memory.backoff.reset();
        }
        Ok(State::Watch { served, version })
    }

    async fn present(&self, head: Head, object: &RawValue) -> Result<(), Unwanted> {
        self.tell(Update::Present(key(head), (self.decode)(object.get()))).await
    }

    async fn troubled(&self, error: ApiError, memory: &mut Memory) -> Result<(), Unwanted> {
        // The way back from it is as ordinary as the end of a watch.
        if matches!(error, ApiError::Gone(_)) {
            return Ok(());
        }
        memory.troubled = true;
        self.tell(Update::Trouble(Some(error))).await
    }

    async fn recovered(&self, memory: &mut Memory) -> Result<(), Unwanted> {
        if !std::mem::take(&mut memory.troubled) {
            return Ok(());
        }
        self.tell(Update::Trouble(None)).await
    }

    async fn tell(&self, update: Update<T>) -> Result<(), Unwanted> {
        self.updates.send((self.tag, update)).await.map_err(|_| Unwanted)
    }
}

/// Where to go on after a failure. Without an answer, where it was; after one, from a fresh list at the latest.
fn after(error: &ApiError, state: State) -> State {
    match (error, state) {
        (ApiError::Unreachable(_) | ApiError::Silent { .. }, State::Watch { served, version }) => {
            State::Watch { served, version }
        }
        (ApiError::Gone(_), State::Watch { served, .. }) => State::List(served),
        // The version may be gone, a server that starts may not know it yet: its groups will tell.
        _ => State::Discover,
    }
}

fn key(head: Head) -> Key {
    Key { namespace: head.metadata.namespace, name: head.metadata.name }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Unwanted> for Stop {
    fn from(_: Unwanted) -> Self {
        Self::Unwanted
    }
}

impl<K: std::fmt::Debug, T> std::fmt::Debug for Follower<K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("resource", &self.resource).field("tag", &self.tag).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching() -> State {
        State::Watch { served: "v1", version: "7".into() }
    }

    #[test]
    fn a_server_that_is_away_is_asked_for_the_rest_and_one_that_has_forgotten_for_everything() {
        assert!(
            matches!(after(&ApiError::Unreachable("refused".into()), watching()), State::Watch { version, .. } if version == "7")
        );
        assert!(matches!(after(&ApiError::Gone("too old".into()), watching()), State::List("v1")));
        let not_found = ApiError::status("WATCH x", 404, b"{}", None);
        assert!(matches!(after(&not_found, watching()), State::Discover));
        assert!(matches!(after(&ApiError::Gone("expired token".into()), State::List("v1")), State::Discover));
    }
}
