//! Agents come and go; what they put into force stays until it is released.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use sotto_ebpf::abi::LAYOUT;

use super::super::{PodAddresses, Redirect, Role, pods};
use super::lab::{Lab, NOWHERE, OUTSIDE_V4, POD_V4, POD_V6, accept, address, addresses, eventually, waiting};

#[test]
fn the_next_agent_takes_over() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load_and_enrol();
    let agent = lab.serve(&mut redirect, Role::Outbound);
    let before = links(&lab.config.pin_dir);
    assert_eq!(before.len(), 7, "{before:?}");
    drop((redirect, agent));

    // Nobody is there: a new connection waits.
    let destination = address(NOWHERE[0]);
    let socket = lab.pod.socket(destination);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.connect(&destination.into()).is_err());

    let mut redirect = lab.load();
    let cookie = lab.pod.netns.cookie();
    assert_eq!((redirect.enrolled().unwrap(), redirect.attached_pods().unwrap()), (vec![cookie], vec![cookie]));
    let after = links(&lab.config.pin_dir);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, (link, program)) in &before {
        assert_eq!(after[name].0, *link, "{name}: the same link");
        assert_ne!(after[name].1, *program, "{name}: a new program");
    }
    redirect.attach_pod(&lab.pod.netns).unwrap();
    assert_eq!(links(&lab.config.pin_dir), after, "attaching again changes nothing");

    let agent = lab.serve(&mut redirect, Role::Outbound);
    let (_, source) = agent.accept(destination);
    assert_eq!(
        redirect.sockets().take_original_destination(cookie, source).unwrap().map(|found| found.destination),
        Some(destination)
    );
    assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(destination));
}

#[test]
fn a_takeover_leaves_no_gap() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    let server = lab.outside.listen(SocketAddr::new(OUTSIDE_V4, 0));
    let to = server.local_addr().unwrap();
    let (done, attempts) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let socket = lab.pod.socket(to);
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&to.into());
                attempts.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut redirect = redirect;
        for _ in 0..5 {
            drop(redirect);
            redirect = lab.load();
            redirect.attach_pod(&lab.pod.netns).unwrap();
            let now = attempts.load(Ordering::Relaxed);
            eventually("more attempts", || (attempts.load(Ordering::Relaxed) > now + 10).then_some(()));
        }
        done.store(true, Ordering::Relaxed);
    });
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "none went around the agent");
    let redirect = lab.load();
    assert_eq!(redirect.counters().unwrap().captured as usize, attempts.load(Ordering::Relaxed));
    assert_eq!(waiting(&redirect), 0);
}

#[test]
fn a_release_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    let links = links(&lab.config.pin_dir);
    redirect.release().unwrap();
    assert!(!lab.config.pin_dir.exists());
    let programs: Vec<u32> = links.values().map(|(_, program)| *program).collect();
    let left = aya::programs::loaded_links()
        .filter_map(Result::ok)
        .filter(|link| programs.contains(&link.program_id()))
        .count();
    assert_eq!(left, 0);
    let server = lab.outside.listen(SocketAddr::new(OUTSIDE_V4, 0));
    let client = lab.pod.connect(server.local_addr().unwrap()).unwrap();
    assert_eq!(accept(&server).1, client.local_addr().unwrap());
    let application = lab.pod.listen(SocketAddr::new(POD_V4, 0));
    let _client = lab.outside.connect(application.local_addr().unwrap()).unwrap();
    accept(&application);
}

#[test]
fn an_agent_with_another_layout_is_replaced_when_the_pods_have_moved() {
    let Some(lab) = Lab::new() else { return };
    drop(lab.load_and_enrol());
    let old = lab.config.pin_dir.join("v0");
    fs::rename(lab.config.pin_dir.join(format!("v{LAYOUT}")), &old).unwrap();

    let mut redirect = lab.load();
    assert_eq!(redirect.predecessors().unwrap(), std::slice::from_ref(&old));
    assert!(redirect.enrolled().unwrap().is_empty());
    // The predecessor is still in force: nothing goes around the agent.
    let server = lab.outside.listen(SocketAddr::new(OUTSIDE_V4, 0));
    let to = server.local_addr().unwrap();
    let early = lab.pod.socket(to);
    early.set_nonblocking(true).unwrap();
    assert!(early.connect(&to.into()).is_err());
    assert_eq!(early.local_addr().unwrap().as_socket().unwrap().ip(), POD_V4);

    let cookie = lab.pod.netns.cookie();
    redirect.attach_pod(&lab.pod.netns).unwrap();
    redirect.enrol(cookie, &addresses()).unwrap();
    redirect.retire_predecessors().unwrap();
    assert!(!old.exists() && redirect.predecessors().unwrap().is_empty());
    let agent = lab.serve(&mut redirect, Role::Outbound);
    // One that the predecessor captured has no destination here.
    let (_, source) = agent.accept(to);
    assert_eq!(redirect.sockets().take_original_destination(cookie, source).unwrap(), None);
    let _later = lab.pod.connect(to).unwrap();
    let (_, source) = agent.accept(to);
    assert_eq!(
        redirect.sockets().take_original_destination(cookie, source).unwrap().map(|found| found.destination),
        Some(to)
    );
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_pod_that_went_away_in_between_is_forgotten() {
    let Some(lab) = Lab::new() else { return };
    drop(lab.load_and_enrol());
    let cookie = lab.pod.netns.cookie();
    let lab = lab.without_pod();
    // The kernel takes a network namespace down in its own time.
    eventually("the end of the pod", || {
        let redirect = lab.load();
        let gone = !redirect.attached_pods().unwrap().contains(&cookie);
        assert_eq!(gone, redirect.enrolled().unwrap().is_empty());
        gone.then_some(())
    });
}

#[test]
fn agents_of_two_nodes_do_not_meet() {
    let (Some(one), Some(two)) = (Lab::new(), Lab::new()) else { return };
    let (mut first, mut second) = (one.load_and_enrol(), two.load_and_enrol());
    let agents = [one.serve(&mut first, Role::Outbound), two.serve(&mut second, Role::Outbound)];
    let destination = address(NOWHERE[0]);
    for (lab, redirect, agent) in [(&one, &first, &agents[0]), (&two, &second, &agents[1])] {
        let client = lab.pod.connect(destination).unwrap();
        let (_, source) = agent.accept(destination);
        let cookie = lab.pod.netns.cookie();
        assert_eq!(
            redirect.sockets().take_original_destination(cookie, source).unwrap().map(|found| found.destination),
            Some(destination)
        );
        assert_eq!(client.peer_addr().unwrap(), destination);
        assert_eq!(redirect.counters().unwrap().captured, 1);
    }
    first.release().unwrap();
    let _client = two.pod.connect(destination).unwrap();
    agents[1].accept(destination);
}

#[test]
fn a_second_agent_of_the_same_node_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let redirect = lab.load_and_enrol();
    let links = links(&lab.config.pin_dir);
    let error = Redirect::load(&lab.config).unwrap_err().to_string();
    assert!(error.contains("already runs") && error.contains(lab.config.pin_dir.to_str().unwrap()), "{error}");
    assert_eq!(self::links(&lab.config.pin_dir), links, "the first one's work is untouched");
    drop(redirect);
    lab.load();
}

#[test]
fn hold_works_without_tcx() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    let hold = redirect.programs.hold().unwrap();
    // Twice: the second replaces the first.
    for _ in 0..2 {
        lab.pod.run(|| pods::attach_clsact(hold)).unwrap();
    }
    redirect.enrol(lab.pod.netns.cookie(), &addresses()).unwrap();
    let destination = address(NOWHERE[0]);
    let held = || redirect.counters().unwrap().held_syns;
    // Seen before the socket tries again.
    let counted = eventually("a held SYN", || {
        let socket = lab.pod.socket(destination);
        socket.set_nonblocking(true).unwrap();
        let (before, begun) = (held(), Instant::now());
        assert_eq!(socket.connect(&destination.into()).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
        eventually("a count", || (held() > before).then_some(()));
        let counted = held() - before;
        (begun.elapsed() < Duration::from_millis(100)).then_some(counted)
    });
    assert_eq!(counted, 1, "one filter, one count");
}

#[test]
fn a_full_house_says_so() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    let nobody = PodAddresses::new(None, None);
    for cookie in 0..4096 {
        redirect.enrol(crate::sys::netns::NetnsCookie(u64::MAX - cookie), &nobody).unwrap();
    }
    let error = redirect.enrol(lab.pod.netns.cookie(), &addresses()).unwrap_err().to_string();
    assert!(error.contains("in the map PODS"), "{error}");
}

#[test]
fn a_socket_that_does_not_listen_serves_nobody() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    let socket = lab.pod.socket(address("127.0.0.1:0"));
    let error = redirect.listen(POD_V6, Role::Hbone, &socket).unwrap_err().to_string();
    assert!(error.starts_with("cannot listen for fd99::1 (Hbone) in the map LISTENERS"), "{error}");
}

#[test]
fn programs_are_small() {
    let Some(lab) = Lab::new() else { return };
    let mut redirect = lab.load();
    // Instructions that the verifier looked at, over all paths: about what a run costs at most.
    for (name, budget) in [
        ("sotto_connect4", 650),
        ("sotto_connect6", 900),
        ("sotto_peername4", 100),
        ("sotto_peername6", 100),
        ("sotto_sockops", 1500),
        ("sotto_inbound", 600),
        ("sotto_hold", 300),
    ] {
        let info = redirect.programs.program(name).unwrap().info().unwrap();
        let instructions = info.size_translated().unwrap_or_default() / 8;
        println!("{name}: {instructions} instructions, {:?} verified", info.verified_instruction_count());
        assert!(instructions > 0 && instructions <= budget, "{name}: {instructions} instructions of {budget}");
    }
}

/// Ids of each pinned link and of its program.
fn links(pin_dir: &Path) -> BTreeMap<String, (u32, u32)> {
    let mut found = BTreeMap::new();
    for directory in fs::read_dir(pin_dir.join(format!("v{LAYOUT}/pods"))).unwrap().map(|entry| entry.unwrap().path()) {
        collect(&directory, &mut found);
    }
    collect(&pin_dir.join(format!("v{LAYOUT}/links")), &mut found);
    found
}

fn collect(directory: &Path, found: &mut BTreeMap<String, (u32, u32)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let info = FdLink::from(PinnedLink::from_pin(&path).unwrap()).info().unwrap();
        found.insert(path.to_string_lossy().into_owned(), (info.id(), info.program_id()));
    }
}
