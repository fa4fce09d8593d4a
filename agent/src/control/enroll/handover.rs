//! Where the CNI plugin meets the agent: a Unix socket that takes one request per connection, from root alone.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::model::cni::handover::{Answer, LONGEST_MESSAGE, Request};

/// A runtime that does not get its request across is not waited for longer than this.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Requests answered at a time; more wait in the listener's queue. A node starts at most a few hundred pods at once.
const MOST_REQUESTS: usize = 256;

/// A bound socket. The file goes when this is dropped.
#[derive(Debug)]
pub struct Handover {
    listener: UnixListener,
    path: PathBuf,
    /// The file, to tell it from one that the next agent has put in its place.
    inode: u64,
}

impl Handover {
    /// Binds the socket; what a dead agent left in its place goes.
    ///
    /// # Errors
    /// When the directory cannot be made, or the socket not be bound or be closed to others than root.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let name = |error: io::Error| {
            io::Error::new(error.kind(), format!("the CNI plugin's socket {}: {error}", path.display()))
        };
        let bind = || {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            // Bound aside and moved: there is no moment without a socket, nor with one that everybody may use.
            let aside = path.with_extension("new");
            remove(&aside)?;
            let listener = UnixListener::bind(&aside)?;
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
            fs::rename(&aside, path)?;
            Ok((listener, fs::symlink_metadata(path)?.ino()))
        };
        let (listener, inode) = bind().map_err(name)?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// Answers requests until `shutdown`.
    pub async fn serve(self, answer: impl AsyncFn(Request) -> Answer, shutdown: impl Future<Output = ()>) {
        let mut under_way = FuturesUnordered::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                accepted = self.listener.accept(), if under_way.len() < MOST_REQUESTS => match accepted {
                    Ok((stream, _)) => under_way.push(converse(stream, &answer)),
                    Err(error) => {
                        tracing::warn!(%error, "no connection of the CNI plugin can be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn converse(mut stream: UnixStream, answer: impl AsyncFn(Request) -> Answer) {
    let answered = match receive(&mut stream).await {
        Ok(request) => answer(request).await,
        Err(error) => {
            tracing::warn!(%error, "a request at the CNI plugin's socket is refused");
            Answer::Failed { message: format!("the agent refuses the request: {error}") }
        }
    };
    let bytes = serde_json::to_vec(&answered).expect("an answer is always JSON");
    // A plugin that has gone will be started again.
    let _gone = stream.write_all(&bytes).await;
}

async fn receive(stream: &mut UnixStream) -> io::Result<Request> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it comes from user {uid}, not from root"),
        ));
    }
    let mut bytes = Vec::new();
    let mut limited = stream.take(LONGEST_MESSAGE as u64 + 1);
    tokio::time::timeout(REQUEST_LIMIT, limited.read_to_end(&mut bytes)).await??;
    if bytes.len() > LONGEST_MESSAGE {
        return Err(io::Error::other(format!("it has more than {LONGEST_MESSAGE} bytes")));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    async fn ask(path: &Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn requests_are_answered_and_nonsense_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/cni.sock");
        let socket = Handover::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let answer = async |request| Answer::Done { enrolled: request == Request::Status };
        let asking = async {
            assert_eq!(ask(&path, br#"{"command":"status"}"#).await, r#"{"answer":"done","enrolled":true}"#);
            for nonsense in [&b""[..], b"{", b"[]", br#"{"command":"stop"}"#, &[b' '; LONGEST_MESSAGE + 1]] {
                let answer = ask(&path, nonsense).await;
                assert!(answer.contains("the agent refuses the request"), "{answer}");
            }
        };
        // As root only: another user is refused, which is shown where the plugin runs.
        if nix::unistd::geteuid().is_root() {
            socket.serve(answer, asking).await;
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_slow_answer_holds_nobody_else_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cni.sock");
        let socket = Handover::bind(&path).unwrap();
        let answer = async |request| match request {
            Request::Status => Answer::Done { enrolled: false },
            Request::Add { .. } | Request::Check { .. } | Request::Del { .. } | Request::Gc { .. } => {
                std::future::pending().await
            }
        };
        let asking = async {
            let mut slow = pin!(ask(&path, br#"{"command":"del","container":"c"}"#));
            tokio::select! {
                _ = &mut slow => panic!("answered"),
                answer = ask(&path, br#"{"command":"status"}"#) => assert!(answer.contains("done"), "{answer}"),
            }
        };
        if nix::unistd::geteuid().is_root() {
            socket.serve(answer, asking).await;
        }
    }

    #[tokio::test]
    async fn the_next_agents_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cni.sock");
        let old = Handover::bind(&path).unwrap();
        let new = Handover::bind(&path).unwrap();
        drop(old);
        assert!(path.exists());
        drop(new);
        assert!(!path.exists());
    }
}
