//! Processes that enter a pod, and sockets that change hands.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage};
use socket2::Socket;

use super::way::{PORT, Way, tcp_socket};

#[test]
fn a_process_that_enters_the_pod_later() {
    let Some(way) = Way::new("a_process_that_enters_the_pod_later") else { return };
    way.check_socket(|| {
        // As `kubectl exec` does: a new process, and inside of it a call of setns().
        let inside = thread::spawn({
            let (pod, to) = (way.pair.client.clone(), way.to);
            move || {
                pod.netns().run(|| {
                    let socket = tcp_socket();
                    socket.connect(&to.into()).unwrap();
                    socket
                })
            }
        });
        inside.join().unwrap()
    });
    let script = format!(
        "exec 3<>/dev/tcp/{}/{PORT} && echo {} >&3 && read -r line <&3 && echo \"$line\"",
        way.to.ip(),
        way.secret
    );
    let capture = way.pair.mesh.capture();
    assert_eq!(way.netns().output("bash", &["-c", &script]).trim(), way.secret.as_str());
    let wire = capture.stop();
    wire.assert_never_in_clear(&way.secret);
    wire.assert_only_tls();
}

#[test]
fn a_socket_of_the_pod_in_other_hands() {
    let Some(way) = Way::new("a_socket_of_the_pod_in_other_hands") else { return };
    way.check_socket(|| {
        let socket = Socket::from(hand_over(way.socket()).unwrap());
        // The node's own process connects it.
        way.pair.a.netns().run(|| socket.connect(&way.to.into())).unwrap();
        socket
    });
}

#[test]
fn a_socket_of_the_node_in_the_pods_hands_is_the_nodes() {
    let Some(way) = Way::new("a_socket_of_the_node_in_the_pods_hands_is_the_nodes") else { return };
    let socket = Socket::from(hand_over(way.pair.a.netns().run(tcp_socket)).unwrap());
    way.netns().run(|| socket.connect(&way.to.into())).unwrap();
    socket.send(way.secret.as_ref()).unwrap();
    way.expect_echo(&TcpStream::from(socket));
    assert_eq!(way.echo.peers()[0].ip(), way.pair.a.ip(), "nobody takes it for the pod");
}

/// Passes a socket through a UNIX socket, as to another process (`SCM_RIGHTS`).
fn hand_over(socket: Socket) -> io::Result<OwnedFd> {
    let (one, other) = UnixStream::pair()?;
    let fds = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    assert!(message.push(SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(&one, &[IoSlice::new(b"x")], &mut message, rustix::net::SendFlags::empty())?;
    drop(socket);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(&other, &mut [IoSliceMut::new(&mut byte)], &mut message, rustix::net::RecvFlags::empty())?;
    let received = message
        .drain()
        .find_map(|message| if let RecvAncillaryMessage::ScmRights(mut fds) = message { fds.next() } else { None });
    received.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}
