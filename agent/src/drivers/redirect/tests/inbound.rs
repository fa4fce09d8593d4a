//! What arrives in a pod.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::thread;

use aya::maps::{HashMap, Map, MapData};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;
use sotto_ebpf::abi::{Flow, LAYOUT};

use super::super::{HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT, Role};
use super::lab::{Lab, OUTSIDE_V4, OUTSIDE_V6, POD_V4, POD_V6, accept, eventually};
use crate::sys::socket::set_transparent;

const PODS: [(IpAddr, IpAddr); 2] = [(POD_V4, OUTSIDE_V4), (POD_V6, OUTSIDE_V6)];

#[test]
fn each_port_from_outside_has_its_listener() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let hbone = lab.serve(&mut redirect, Role::Hbone);
    let plaintext = lab.serve(&mut redirect, Role::Plaintext);
    let _outbound = lab.serve(&mut redirect, Role::Outbound);
    for (pod, outside) in PODS {
        for (port, agent) in [(HBONE_PORT, &hbone), (8080, &plaintext), (1, &plaintext), (65535, &plaintext)] {
            let to = SocketAddr::new(pod, port);
            let client = lab.outside.connect(to).unwrap();
            let (accepted, source) = agent.accept(to);
            assert_eq!(accepted.local_addr().unwrap(), to);
            assert_eq!(source, client.local_addr().unwrap());
            assert_eq!(source.ip(), outside);
        }
        for port in [OUTBOUND_PORT, PLAINTEXT_PORT] {
            let refused = lab.outside.connect(SocketAddr::new(pod, port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{port}");
        }
    }
    assert_eq!(redirect.counters().unwrap().refused_reserved_port, 4);
}

#[test]
fn without_a_listener_a_connection_is_refused_and_never_reaches_the_application() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let application = lab.pod.listen("[::]:8080".parse().unwrap());
    for (pod, _) in PODS {
        let refused = lab.outside.connect(SocketAddr::new(pod, 8080)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(redirect.counters().unwrap().refused_no_listener, 2);
    // A listener that its process closed, or lost with its life, is as good as none.
    drop(lab.serve(&mut redirect, Role::Plaintext));
    for (pod, _) in PODS {
        assert!(lab.outside.connect(SocketAddr::new(pod, 8080)).is_err());
    }
    assert_eq!(redirect.counters().unwrap().refused_no_listener, 4);
    application.set_nonblocking(true).unwrap();
    assert_eq!(application.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_pod_reaches_itself() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let _plaintext = lab.serve(&mut redirect, Role::Plaintext);
    let hbone = lab.serve(&mut redirect, Role::Hbone);
    let application = lab.pod.listen("[::]:8080".parse().unwrap());
    for (pod, _) in PODS {
        let client = lab.pod.connect(SocketAddr::new(pod, 8080)).unwrap();
        assert_eq!(accept(&application).1.port(), client.local_addr().unwrap().port());
        let tunnel = SocketAddr::new(pod, HBONE_PORT);
        let client = lab.pod.connect(tunnel).unwrap();
        assert_eq!(hbone.accept(tunnel).1, client.local_addr().unwrap());
        let refused = lab.pod.connect(SocketAddr::new(pod, PLAINTEXT_PORT)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn the_agent_delivers_from_the_clients_address() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let plaintext = lab.serve(&mut redirect, Role::Plaintext);
    route_answers_back(&lab);
    let application = lab.pod.listen("[::]:8080".parse().unwrap());
    for (pod, outside) in PODS {
        let to = SocketAddr::new(pod, 8080);
        let delivery = from_client(&lab, outside);
        redirect.sockets().note_delivery(&delivery).unwrap();
        delivery.connect(&to.into()).unwrap();
        let source = delivery.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(source.ip(), outside);
        let (accepted, seen) = accept(&application);
        assert_eq!((seen.ip().to_canonical(), seen.port()), (source.ip(), source.port()));
        assert_eq!(admitted(&lab), 1);
        drop((delivery, accepted));
        eventually("the end of the admission", || (admitted(&lab) == 0).then_some(()));

        // Without the note it counts as plain text from that client.
        let unnoted = from_client(&lab, outside);
        redirect.sockets().note_own(&unnoted).unwrap();
        unnoted.connect(&to.into()).unwrap();
        assert_eq!(plaintext.accept(to).1, unnoted.local_addr().unwrap().as_socket().unwrap());
    }
}

#[test]
fn threads_share_a_listener() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let first = lab.pod.listen_shared("127.0.0.1:0".parse().unwrap());
    let second = lab.pod.listen_shared(first.local_addr().unwrap());
    redirect.listen(POD_V4, Role::Hbone, &first).unwrap();
    let to = SocketAddr::new(POD_V4, HBONE_PORT);
    // The kernel spreads by a hash of addresses: 48 connections on one side only are one in 2^47.
    let clients: Vec<_> = (0..48).map(|_| lab.outside.connect(to).unwrap()).collect();
    let counts = [&first, &second].map(drain);
    assert_eq!(counts.iter().sum::<usize>(), clients.len());
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn a_pod_that_is_not_attached_is_as_without_the_mesh() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let application = lab.pod.listen("[::]:8080".parse().unwrap());
    redirect.leave(lab.pod.netns.cookie()).unwrap();
    redirect.detach_pod(lab.pod.netns.cookie()).unwrap();
    redirect.detach_pod(lab.pod.netns.cookie()).unwrap();
    assert!(redirect.attached_pods().unwrap().is_empty());
    for (pod, outside) in PODS {
        let _client = lab.outside.connect(SocketAddr::new(pod, 8080)).unwrap();
        assert_eq!(accept(&application).1.ip().to_canonical(), outside);
    }
}

#[test]
fn many_connections_at_once_are_all_taken() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let plaintext = lab.serve(&mut redirect, Role::Plaintext);
    let to = SocketAddr::new(POD_V4, 8080);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| drop(lab.outside.connect(to).unwrap())));
        }
        (0..100).for_each(|_| drop(plaintext.accept(to)));
    });
    assert_eq!(redirect.counters().unwrap().refused_no_listener, 0);
}

/// What enrolment sets up so that answers to a client's address come back over `lo`.
fn route_answers_back(lab: &Lab) {
    lab.pod.sysctl("net.ipv4.tcp_fwmark_accept", "1");
    for family in ["-4", "-6"] {
        lab.pod.ip(&[family, "rule", "add", "fwmark", "77", "lookup", "177"]);
        lab.pod.ip(&[family, "route", "add", "local", "default", "dev", "lo", "table", "177"]);
    }
}

/// A socket in the pod that speaks from a client's address.
fn from_client(lab: &Lab, client: IpAddr) -> Socket {
    let from = SocketAddr::new(client, 0);
    let socket = lab.pod.socket(from);
    set_transparent(socket.as_fd(), client).unwrap();
    setsockopt(&socket, sockopt::Mark, &77).unwrap();
    socket.bind(&from.into()).unwrap();
    socket
}

fn admitted(lab: &Lab) -> usize {
    let pin = MapData::from_pin(lab.config.pin_dir.join(format!("v{LAYOUT}/ADMITTED_FLOWS"))).unwrap();
    let map: HashMap<_, Flow, u32> = Map::from_map_data(pin).unwrap().try_into().unwrap();
    map.keys().map(Result::unwrap).count()
}

fn drain(listener: &TcpListener) -> usize {
    listener.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| listener.accept().ok()).count()
}
