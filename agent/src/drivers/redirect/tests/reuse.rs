//! One socket, several attempts: what an earlier connect() left must not colour a later one. Without *hold* and listeners the
//! first attempt is refused, after which a socket may try again.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;

use sotto_ebpf::abi::LAYOUT;

use super::super::Role;
use super::lab::{Lab, NOWHERE, OUTSIDE_V4, POD_V4, accept, address, addresses, waiting};

#[test]
fn a_later_destination_replaces_an_earlier_one() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    let cookie = lab.pod.netns.cookie();
    redirect.enrol(cookie, &addresses()).unwrap();
    let socket = lab.pod.socket(address(NOWHERE[0]));
    let refused = socket.connect(&address("192.0.2.7:80").into()).unwrap_err();
    assert_eq!((refused.kind(), waiting(&redirect)), (ErrorKind::ConnectionRefused, 0));

    redirect.attach_pod(&lab.pod.netns).unwrap();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    let later = address("192.0.2.8:81");
    socket.connect(&later.into()).unwrap();
    assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(later));
    let (_, source) = agent.accept(later);
    assert_eq!(
        redirect.sockets().take_original_destination(cookie, source).unwrap().map(|found| found.destination),
        Some(later)
    );
}

#[test]
fn nothing_is_left_of_a_captured_attempt_when_the_next_is_not() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    let cookie = lab.pod.netns.cookie();
    let application = lab.pod.listen(SocketAddr::new(POD_V4, 0));
    let outside = lab.outside.listen(SocketAddr::new(OUTSIDE_V4, 0));
    // Inside the pod; and outside, by a pod that has left.
    for (listener, leave) in [(application, false), (outside, true)] {
        redirect.enrol(cookie, &addresses()).unwrap();
        let to = listener.local_addr().unwrap();
        let socket = lab.pod.socket(to);
        assert!(socket.connect(&address(NOWHERE[0]).into()).is_err());
        if leave {
            redirect.leave(cookie).unwrap();
        }
        socket.connect(&to.into()).unwrap();
        assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(to));
        accept(&listener);
        assert_eq!(waiting(&redirect), 0);
    }
}

#[test]
fn a_second_copy_of_the_programs_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    drop(lab.load_and_enrol());
    // With its predecessor's links out of sight, an agent makes new ones on the same maps, and both are attached.
    let root = lab.config.pin_dir.join(format!("v{LAYOUT}"));
    for directory in ["links", "pods"] {
        fs::rename(root.join(directory), root.join(format!("hidden-{directory}"))).unwrap();
    }
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    for destination in NOWHERE.map(address) {
        let client = lab.pod.connect(destination).unwrap();
        let (_, source) = agent.accept(destination);
        assert_eq!(client.peer_addr().unwrap(), destination);
        let found = redirect.sockets().take_original_destination(lab.pod.netns.cookie(), source).unwrap();
        assert_eq!(found.map(|found| found.destination.port()), Some(destination.port()));
    }
    let counters = redirect.counters().unwrap();
    assert_eq!((counters.captured, counters.refused_no_listener), (3, 0));
}
