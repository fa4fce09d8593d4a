//! A machine outside the mesh: on the underlay, reachable from every pod, and in no manifest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use super::Site;
use crate::mesh::{Joined, Shared, lock};
use crate::node::{plug_in, routes_to_pods_of};

/// Numbers of nodes are below this one.
const FIRST: u8 = 100;

/// A machine outside the mesh.
#[derive(Clone, Debug)]
pub struct External {
    site: Site,
    number: u8,
}

impl External {
    pub(crate) fn join(shared: &Arc<Shared>, name: &str) -> Self {
        let number = FIRST + u8::try_from(lock(&shared.joined).len()).expect("few machines");
        let netns = shared.create_netns(name);
        plug_in(shared, &netns, number);
        for node in lock(&shared.joined).iter().filter_map(|joined| joined.node) {
            netns.ip(&routes_to_pods_of(node));
        }
        lock(&shared.joined).push(Joined { netns: Arc::clone(&netns), node: None });
        Self { site: Site::new(name, netns, Arc::clone(&shared.servers)), number }
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        Ipv4Addr::new(10, 200, 0, self.number).into()
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ip6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    /// A port on its IPv4 address.
    #[must_use]
    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// A port on its IPv6 address.
    #[must_use]
    pub fn addr6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip6(), port)
    }
}

impl Deref for External {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}
