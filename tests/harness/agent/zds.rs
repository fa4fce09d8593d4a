//! The socket over which a node's ztunnel learns of its pods: the side that Istio's CNI agent has (`zds.proto`). Each message is one
//! packet; a pod's network namespace comes along as a descriptor; every message is answered before the next one.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::pod::Pod;

/// How long ztunnel may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a ztunnel.
#[derive(Debug)]
pub(super) struct Listener(Socket);

/// Tells one ztunnel of its pods.
#[derive(Debug)]
pub(super) struct Pods(Socket);

impl Listener {
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        listener.bind(&SockAddr::unix(path)?)?;
        listener.listen(1)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(listener))
    }

    /// Accepts the ztunnel, and hears its greeting.
    pub(super) fn accept(&self) -> io::Result<Pods> {
        let (connection, _) = self.0.accept()?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let pods = Pods(connection);
        pods.receive()?;
        Ok(pods)
    }
}

impl Pods {
    /// Hands a pod over.
    pub(super) fn add(&self, pod: &Pod) -> io::Result<()> {
        let namespace = File::open(pod.netns().path())?;
        let identity = pod.identity();
        let account = identity.rsplit('/').next().unwrap_or_default();
        let info = [text(1, &pod.name()), text(2, &pod.namespace()), text(3, account)].concat();
        let added = [text(1, &uid(pod)), field(2, &info)].concat();
        self.tell(&field(1, &added), &[namespace.as_raw_fd()])
    }

    /// Takes a pod back.
    pub(super) fn remove(&self, pod: &Pod) -> io::Result<()> {
        self.tell(&field(2, &text(2, &uid(pod))), &[])
    }

    /// Says that all pods that were there before have been named.
    pub(super) fn complete(&self) -> io::Result<()> {
        self.tell(&field(3, &[]), &[])
    }

    fn tell(&self, message: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
        let control: &[ControlMessage<'_>] =
            if descriptors.is_empty() { &[] } else { &[ControlMessage::ScmRights(descriptors)] };
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &[IoSlice::new(message)], control, MsgFlags::empty(), None)?;
        self.receive()
    }

    /// An answer; an error in it makes it longer than a few bytes.
    fn receive(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
        match self.0.recv(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            1..=4 => Ok(()),
            length => Err(io::Error::other(format!("ztunnel refuses, in {length} bytes: its log says why"))),
        }
    }
}

fn uid(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace(), pod.name())
}

fn text(number: u8, text: &str) -> Vec<u8> {
    field(number, text.as_bytes())
}

/// A field of Protocol Buffers that has a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 0x80).expect("names in tests are short");
    [&[number << 3 | 2, length], bytes].concat()
}
