//! Who speaks to one pod's HBONE port right now, and how much of it a single peer may do.
//!
//! Handshakes come from anybody, so the longest under way makes room for the newest: an honest one takes milliseconds, and a
//! crowd of silent ones must not keep it out. Tunnels come from proven members of the mesh; those over the limit are refused.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::Refused;

/// How much of a kind may be under way on one data-plane thread.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Handshakes with one address. A pod of this mesh makes one tunnel per data-plane thread of its node to each other pod, so
    /// this is more than an honest node of any size begins within a handshake's time.
    pub handshakes_per_peer: usize,
    /// Handshakes with all addresses. At some 30 KiB each, a pod's strangers cost at most 16 MiB of memory.
    pub handshakes: usize,
    /// Tunnels from one address. 64 tunnels of 200 streams are 12,800 connections from one pod to one other.
    pub tunnels_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshakes_per_peer: 64, handshakes: 512, tunnels_per_peer: 64 }
    }
}

/// See the module. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Peers(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    /// By age.
    handshakes: BTreeMap<u64, (IpAddr, CancellationToken)>,
    begun: u64,
    tunnels: HashMap<IpAddr, usize>,
}

/// A handshake under way, counted until dropped.
#[derive(Debug)]
pub struct Handshake {
    peers: Peers,
    number: u64,
    /// Cancelled when a newer handshake needs the place.
    pub evicted: CancellationToken,
}

/// A tunnel, counted until dropped.
#[derive(Debug)]
pub struct Tunnel {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    /// Nobody yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Rc::new(RefCell::new(State { limits, ..State::default() })))
    }

    /// Begins a handshake; says which limit had an older one broken off for it, if one had.
    #[must_use]
    pub fn begin_handshake(&self, peer: IpAddr) -> (Handshake, Option<Refused>) {
        let mut state = self.0.borrow_mut();
        let refused = state.make_room(peer);
        let number = state.begun;
        state.begun += 1;
        let evicted = CancellationToken::new();
        state.handshakes.insert(number, (peer, evicted.clone()));
        (Handshake { peers: self.clone(), number, evicted }, refused)
    }

    /// Begins a tunnel; `None` when the peer has too many.
    #[must_use]
    pub fn begin_tunnel(&self, peer: IpAddr) -> Option<Tunnel> {
        let mut state = self.0.borrow_mut();
        let most = state.limits.tunnels_per_peer;
        let tunnels = state.tunnels.entry(peer).or_default();
        if *tunnels >= most {
            return None;
        }
        *tunnels += 1;
        Some(Tunnel { peers: self.clone(), peer })
    }
}

impl State {
    fn make_room(&mut self, peer: IpAddr) -> Option<Refused> {
        let mut own = self.handshakes.iter().filter(|(_, (other, _))| *other == peer).map(|(&number, _)| number);
        let oldest_own = own.next();
        let (refused, number) = if oldest_own.is_some() && 1 + own.count() >= self.limits.handshakes_per_peer {
            (Refused::HandshakesPerPeer, oldest_own)
        } else if self.handshakes.len() >= self.limits.handshakes {
            (Refused::Handshakes, self.handshakes.keys().next().copied())
        } else {
            return None;
        };
        let (_, evicted) = self.handshakes.remove(&number?)?;
        evicted.cancel();
        Some(refused)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.peers.0.borrow_mut().handshakes.remove(&self.number);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let tunnels = &mut self.peers.0.borrow_mut().tunnels;
        if let Some(number) = tunnels.get_mut(&self.peer) {
            *number -= 1;
            if *number == 0 {
                tunnels.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { handshakes_per_peer: 2, handshakes: 3, tunnels_per_peer: 2 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_peers_oldest_handshake_makes_room_for_its_newest() {
        let peers = Peers::new(LIMITS);
        let (first, none) = peers.begin_handshake(ip(1));
        let (second, _) = peers.begin_handshake(ip(1));
        assert_eq!(none, None);
        let (third, refused) = peers.begin_handshake(ip(1));
        assert_eq!(refused, Some(Refused::HandshakesPerPeer));
        let evicted = [&first, &second, &third].map(|handshake| handshake.evicted.is_cancelled());
        assert_eq!(evicted, [true, false, false]);
    }

    #[test]
    fn a_crowd_makes_room_for_a_newcomer() {
        let peers = Peers::new(LIMITS);
        let crowd = [1, 2, 3].map(|last| peers.begin_handshake(ip(last)).0);
        let (newest, refused) = peers.begin_handshake(ip(9));
        assert_eq!(refused, Some(Refused::Handshakes));
        assert!(crowd[0].evicted.is_cancelled() && !newest.evicted.is_cancelled());
        drop((crowd, newest));
        assert!(peers.0.borrow().handshakes.is_empty());
    }

    #[test]
    fn tunnels_are_counted_per_peer_until_they_end() {
        let peers = Peers::new(LIMITS);
        let first = peers.begin_tunnel(ip(1)).unwrap();
        let _second = peers.begin_tunnel(ip(1)).unwrap();
        assert!(peers.begin_tunnel(ip(1)).is_none());
        assert!(peers.begin_tunnel(ip(2)).is_some());
        drop(first);
        assert!(peers.begin_tunnel(ip(1)).is_some());
        assert_eq!(peers.0.borrow().tunnels.len(), 1);
    }
}
