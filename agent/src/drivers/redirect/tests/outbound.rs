//! What an enrolled pod's applications dial.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::TcpFastOpenConnect};
use socket2::{Domain, Protocol, Socket, Type};

use super::super::{OUTBOUND_PORT, PodAddresses, Role};
use super::lab::{
    Lab, NOWHERE, OUTSIDE_V4, OUTSIDE_V6, POD_V4, POD_V6, accept, address, addresses, eventually, waiting,
};

#[test]
fn connections_of_every_form_reach_the_agent_and_keep_their_destination() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    let sockets = redirect.sockets();
    for destination in NOWHERE.map(address) {
        let client = lab.pod.connect(destination).unwrap();
        let (accepted, source) = agent.accept(destination);
        let pod = if source.is_ipv4() { POD_V4 } else { POD_V6 };
        assert_eq!(accepted.local_addr().unwrap(), SocketAddr::new(pod, OUTBOUND_PORT));
        assert_eq!(client.peer_addr().unwrap(), destination, "what the application sees");
        let wanted = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let cookie = lab.pod.netns.cookie();
        assert_eq!(
            sockets.take_original_destination(cookie, source).unwrap().map(|found| found.destination),
            Some(wanted)
        );
        assert_eq!(sockets.take_original_destination(cookie, source).unwrap(), None, "only once");
    }
    assert_eq!(redirect.counters().unwrap().captured, 3);
    assert_eq!(waiting(&redirect), 0);
}

#[test]
fn the_agents_own_sockets_leave_as_they_are() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    let sockets = redirect.sockets();
    for ip in [OUTSIDE_V4, OUTSIDE_V6] {
        let server = lab.outside.listen(SocketAddr::new(ip, 0));
        let to = server.local_addr().unwrap();
        for note in [sockets.clone(), sockets.clone()] {
            let socket = lab.pod.socket(to);
            note.note_own(&socket).unwrap();
            socket.connect(&to.into()).unwrap();
            assert_eq!(accept(&server).1, socket.local_addr().unwrap().as_socket().unwrap());
        }
    }
    assert_eq!(redirect.counters().unwrap().captured, 0);
}

#[test]
fn what_stays_in_the_pod_is_left_alone() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    let application = lab.pod.listen(address("[::]:0"));
    let port = application.local_addr().unwrap().port();
    for ip in ["127.0.0.1", "127.8.9.10", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "10.99.0.1", "fd99::1"] {
        let client = lab.pod.connect(SocketAddr::new(ip.parse().unwrap(), port)).unwrap();
        let (_, source) = accept(&application);
        assert_eq!(source.port(), client.local_addr().unwrap().port(), "{ip}");
    }
    assert_eq!(redirect.counters().unwrap().captured, 0);
}

#[test]
fn datagrams_and_other_pods_are_left_alone() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    let socket = lab.pod.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.connect((OUTSIDE_V4, 53)).unwrap();
    assert_eq!(socket.peer_addr().unwrap(), SocketAddr::new(OUTSIDE_V4, 53));
    let refused = lab.outside.connect(SocketAddr::new(OUTSIDE_V4, 9)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(redirect.counters().unwrap().captured, 0);
}

#[test]
fn a_destination_that_cannot_be_captured_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    redirect.attach_pod(&lab.pod.netns).unwrap();
    redirect.enrol(lab.pod.netns.cookie(), &PodAddresses::new(Some(Ipv4Addr::new(10, 99, 0, 1)), None)).unwrap();
    let server = lab.outside.listen(SocketAddr::new(OUTSIDE_V6, 0));
    let refused = lab.pod.connect(server.local_addr().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(redirect.counters().unwrap().refused_no_address, 1);
}

#[test]
fn a_pod_that_leaves_goes_direct() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    let cookie = lab.pod.netns.cookie();
    assert_eq!(redirect.enrolled().unwrap(), [cookie]);
    let server = lab.outside.listen(SocketAddr::new(OUTSIDE_V4, 0));
    let to = server.local_addr().unwrap();
    let mut before = lab.pod.connect(to).unwrap();
    let (mut accepted, _) = agent.accept(to);
    redirect.leave(cookie).unwrap();
    redirect.leave(cookie).unwrap();
    assert!(redirect.enrolled().unwrap().is_empty());
    let after = lab.pod.connect(to).unwrap();
    assert_eq!(accept(&server).1, after.local_addr().unwrap());
    // A connection from before goes on as it was.
    before.write_all(b"still here").unwrap();
    let mut heard = [0; 10];
    accepted.read_exact(&mut heard).unwrap();
    assert_eq!((&heard, before.peer_addr().unwrap()), (b"still here", to));
}

#[test]
fn connections_wait_while_nobody_listens() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    for destination in NOWHERE.map(address) {
        let held = redirect.counters().unwrap().held_syns;
        let socket = lab.pod.socket(destination);
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.connect(&destination.into()).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
        eventually("a held SYN", || (redirect.counters().unwrap().held_syns > held).then_some(()));
        assert!(socket.take_error().unwrap().is_none() && socket.peer_addr().is_err());
        let agent = lab.serve(&mut redirect, Role::Outbound);
        let (_, source) = agent.accept(destination);
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(destination));
        let found = redirect.sockets().take_original_destination(lab.pod.netns.cookie(), source).unwrap();
        assert_eq!(found.map(|found| found.destination.port()), Some(destination.port()));
        for ip in [POD_V4, POD_V6] {
            redirect.unlisten(ip, Role::Outbound).unwrap();
            redirect.unlisten(ip, Role::Outbound).unwrap();
        }
    }
    assert_eq!(redirect.counters().unwrap().refused_no_listener, 0, "none was refused");
}

#[test]
fn what_waits_tries_often_and_as_long_as_without_us() {
    let Some(lab) = Lab::new() else { return };
    // Another agent's programs run for each socket before this one's and after them.
    let (Some(before), Some(after)) = (Lab::new(), Lab::new()) else { return };
    let _before = before.load();
    let redirect = lab.load_and_enrol();
    let _after = after.load();
    // One more try, after a second, and two seconds for that one.
    for (key, value) in [("tcp_syn_retries", "1"), ("tcp_syn_linear_timeouts", "0")] {
        let path = format!("/proc/sys/net/ipv4/{key}");
        lab.pod.run(|| fs::exists(&path).unwrap().then(|| fs::write(&path, value).unwrap()));
    }
    let begun = Instant::now();
    let error = lab.pod.connect(address(NOWHERE[0])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= Duration::from_secs(3), "it gave up after {:?}", begun.elapsed());
    assert_eq!(redirect.counters().unwrap().held_syns, 5, "125, 250, 500 and 1000 ms after one another");
}

#[test]
fn a_client_that_gives_up_leaves_nothing_behind() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    for destination in NOWHERE.map(address) {
        let socket = lab.pod.socket(destination);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.connect(&destination.into()).is_err());
        assert_eq!(waiting(&redirect), 1);
        drop(socket);
        assert_eq!(waiting(&redirect), 0, "{destination}");
    }
}

#[test]
fn a_client_that_writes_and_closes_at_once_is_heard() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    for destination in NOWHERE.map(address) {
        lab.pod.connect(destination).unwrap().write_all(b"fire and forget").unwrap();
        // The kernel answers for the agent, and then nothing is left of the client's socket but TIME-WAIT.
        eventually("the acknowledgement of the client's FIN", || (!lab.pod.has_socket_in_fin_wait_1()).then_some(()));
        let (mut accepted, source) = agent.accept(destination);
        let found = redirect.sockets().take_original_destination(lab.pod.netns.cookie(), source).unwrap();
        assert_eq!(found.map(|found| found.destination.port()), Some(destination.port()));
        let mut heard = String::new();
        accepted.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "fire and forget");
    }
    assert_eq!(waiting(&redirect), 0);
}

#[test]
fn a_connection_too_many_has_no_destination() {
    let Some(mut lab) = Lab::new() else { return };
    lab.config.original_destinations = 2;
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    let destination = address(NOWHERE[0]);
    let clients: Vec<TcpStream> = (0..3).map(|_| lab.pod.connect(destination).unwrap()).collect();
    assert_eq!(redirect.counters().unwrap().original_destinations_full, 1);
    let found = clients.iter().map(|_| {
        let (_, source) = agent.accept(destination);
        redirect
            .sockets()
            .take_original_destination(lab.pod.netns.cookie(), source)
            .unwrap()
            .map(|found| found.destination)
    });
    assert_eq!(found.collect::<Vec<_>>(), [Some(destination), Some(destination), None]);
    // And with room again, all is well.
    drop(clients);
    lab.pod.connect(destination).unwrap();
    assert_eq!(waiting(&redirect), 1);
}

#[test]
fn what_was_never_accepted_is_forgotten_in_time() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    drop(lab.pod.connect(address(NOWHERE[0])).unwrap());
    drop(agent);
    assert_eq!(waiting(&redirect), 1);
    assert_eq!(redirect.forget_stale(Duration::from_secs(300)).unwrap(), 0);
    assert_eq!(waiting(&redirect), 1);
    assert_eq!(redirect.forget_stale(Duration::ZERO).unwrap(), 1);
    assert_eq!(waiting(&redirect), 0);
}

#[test]
fn fast_open_and_multipath_are_no_way_around() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    let destination = address(NOWHERE[0]);
    let cookie = lab.pod.netns.cookie();

    let fast = lab.pod.socket(destination);
    setsockopt(&fast, TcpFastOpenConnect, &true).unwrap();
    fast.connect(&destination.into()).unwrap();
    (&fast).write_all(b"early").unwrap();
    let (mut accepted, source) = agent.accept(destination);
    assert_eq!(
        redirect.sockets().take_original_destination(cookie, source).unwrap().map(|found| found.destination),
        Some(destination)
    );
    let mut heard = [0; 5];
    accepted.read_exact(&mut heard).unwrap();

    let mptcp = Protocol::from(libc::IPPROTO_MPTCP);
    match lab.pod.run(|| Socket::new(Domain::IPV4, Type::STREAM, Some(mptcp))) {
        Ok(multipath) => {
            multipath.connect(&destination.into()).unwrap();
            let (_, source) = agent.accept(destination);
            assert_eq!(
                redirect.sockets().take_original_destination(cookie, source).unwrap().map(|found| found.destination),
                Some(destination)
            );
        }
        Err(error) => eprintln!("skipped: multipath TCP ({error})"),
    }
}

#[test]
fn a_socket_bound_to_a_device_or_address_is_captured_too() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    for (destination, from) in NOWHERE.map(address).into_iter().zip(["10.99.0.1:0", "[fd99::1]:0", "[::]:0"]) {
        let socket = lab.pod.socket(destination);
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.bind(&address(from).into()).unwrap();
        socket.connect(&destination.into()).unwrap();
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(destination));
        let (_, source) = agent.accept(destination);
        let found = redirect.sockets().take_original_destination(lab.pod.netns.cookie(), source).unwrap();
        assert_eq!(found.map(|found| found.destination.port()), Some(destination.port()));
    }
}

#[test]
fn a_socket_without_room_for_the_note_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    if !lab.pod.try_sysctl("net.core.optmem_max", "16") {
        eprintln!("skipped: this kernel has one net.core.optmem_max for the whole machine");
        return;
    }
    let server = lab.outside.listen(SocketAddr::new(OUTSIDE_V4, 0));
    let to = server.local_addr().unwrap();
    assert_eq!(lab.pod.connect(to).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(redirect.counters().unwrap().refused_no_note, 1);
    assert!(redirect.sockets().note_own(&lab.pod.socket(to)).is_err(), "the agent hears about it");
}

#[test]
fn new_addresses_take_the_place_of_old_ones() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    redirect.attach_pod(&lab.pod.netns).unwrap();
    let cookie = lab.pod.netns.cookie();
    redirect.enrol(cookie, &PodAddresses::new(None, None)).unwrap();
    let destination = address(NOWHERE[0]);
    assert_eq!(lab.pod.connect(destination).unwrap_err().kind(), ErrorKind::PermissionDenied);
    redirect.enrol(cookie, &addresses()).unwrap();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    let _client = lab.pod.connect(destination).unwrap();
    agent.accept(destination);
}
