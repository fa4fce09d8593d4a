//! How an application's replies find the agent when the agent speaks to it from the client's address.
//!
//! The agent's dial carries [`REPLY_MARK`]. `tcp_fwmark_accept` makes the application's accepted socket inherit that mark,
//! `fwmark_reflect` gives it to the reset of a port where nobody listens, and one rule sends what carries it to a table whose
//! only route is "everything is local": the replies go over `lo` to the agent's socket instead of out of the pod. No packet
//! filter is involved.
//!
//! The namespace is also told to use source ports in TIME-WAIT again (`tcp_tw_reuse`): all captured connections of a pod go to
//! one local address, so without it a pod could begin only as many connections a minute as there are source ports, to all
//! its destinations together. The kernel does so by itself for connections over loopback addresses (2, its default), but does
//! not see that these are some. What the pod set itself is left alone.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nix::sys::statvfs::{FsFlags, statvfs};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::netlink::{LOOPBACK_INDEX, accept_existing, accept_missing, with_handle};
use crate::sys::netns::Netns;

/// The mark on the agent's transparent dials and so on the application's replies.
pub const REPLY_MARK: u32 = 0x0050_7740;

/// The routing table that holds "everything is local", and the priority of the rule that leads to it.
const TABLE: u32 = 15006;

/// Switches of the pod's namespace: off in a new one, on while the reply path is there. The last is missing without IPv6.
const SWITCHES: [&str; 3] = ["net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"];

/// Where sysctls are.
const OWN_SYSCTLS: &str = "/proc/sys";

/// Where the node's first process has them. Needs the node's pid namespace and `CAP_SYS_PTRACE`.
const NODE_SYSCTLS: &str = "/proc/1/root/proc/sys";

/// Whether ports in TIME-WAIT may be used again: 0 no, 1 yes, 2 between loopback addresses.
const PORT_REUSE: &str = "net/ipv4/tcp_tw_reuse";

/// The kernel's own value of [`PORT_REUSE`], and the metric of the route that remembers that it was changed: an agent that
/// takes the namespace over after a crash finds it there.
const USUAL_REUSE: &str = "2";
const REUSE_CHANGED: u32 = 2;

/// Sets the reply path up in a pod's network namespace. Doing it again changes nothing.
///
/// # Errors
/// When `/proc/sys` cannot be written, or netlink refuses the rule or the route (`CAP_NET_ADMIN`).
pub async fn install(netns: &Netns) -> io::Result<()> {
    netns.run(|| switch("1"))??;
    let change_reuse = netns.run(port_reuse_is_usual)??;
    with_handle(netns, async |handle| {
        if change_reuse {
            accept_existing(handle.route().add(reuse_marker()).execute().await)?;
        }
        for family in usable_families(netns)? {
            accept_existing(handle.route().add(family.route()).execute().await)?;
            let mut rule = handle.rule().add();
            *rule.message_mut() = family.rule();
            accept_existing(rule.execute().await)?;
        }
        Ok(())
    })
    .await?;
    if change_reuse { netns.run(|| fs::write(sysctl(PORT_REUSE), "1"))? } else { Ok(()) }
}

/// Takes the reply path away again. Connections that still rely on it break.
///
/// # Errors
/// As [`install`]; what is already gone is no error.
pub async fn remove(netns: &Netns) -> io::Result<()> {
    let reuse_was_changed = with_handle(netns, async |handle| {
        let marked = accept_missing(handle.route().del(reuse_marker()).execute().await)?;
        for family in families(netns)? {
            accept_missing(handle.rule().del(family.rule()).execute().await)?;
            accept_missing(handle.route().del(family.route()).execute().await)?;
        }
        Ok(marked)
    })
    .await?;
    if reuse_was_changed {
        netns.run(|| fs::write(sysctl(PORT_REUSE), USUAL_REUSE))??;
    }
    netns.run(|| switch("0"))?
}

fn port_reuse_is_usual() -> io::Result<bool> {
    Ok(fs::read_to_string(sysctl(PORT_REUSE))?.trim() == USUAL_REUSE)
}

/// The same way to everything once more, so it changes no routing; its metric makes it another route.
fn reuse_marker() -> RouteMessage {
    let mut route = Family::V4.route();
    route.attributes.push(RouteAttribute::Priority(REUSE_CHANGED));
    route
}

fn switch(value: &str) -> io::Result<()> {
    let switches = SWITCHES.iter().map(|name| sysctl(name));
    switches.filter(|path| fs::exists(path).unwrap_or(true)).try_for_each(|path| fs::write(path, value))
}

/// Where a sysctl of the calling thread's network namespace is. Container runtimes mount `/proc/sys` read-only; the first process of
/// the node sees the same files where they can be written.
fn sysctl(name: &str) -> PathBuf {
    static ROOT: LazyLock<&Path> = LazyLock::new(|| {
        let is_read_only = statvfs(OWN_SYSCTLS).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
        Path::new(if is_read_only { NODE_SYSCTLS } else { OWN_SYSCTLS })
    });
    ROOT.join(name)
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// The families that the namespace speaks: a machine may have IPv6 switched off.
fn families(netns: &Netns) -> io::Result<Vec<Family>> {
    let has_v6 = netns.run(|| fs::exists("/proc/sys/net/ipv6"))??;
    Ok(if has_v6 { vec![Family::V4, Family::V6] } else { vec![Family::V4] })
}

/// Those in which `lo` takes routes: a pod may have IPv6 switched off.
fn usable_families(netns: &Netns) -> io::Result<Vec<Family>> {
    let is_off = || fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|text| text.trim() == "1");
    let without_v6 = netns.run(is_off)?;
    Ok(families(netns)?.into_iter().filter(|family| matches!(family, Family::V4) || !without_v6).collect())
}

impl Family {
    fn address_family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }

    fn route(self) -> RouteMessage {
        let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .output_interface(LOOPBACK_INDEX)
            .build();
        message.header.address_family = self.address_family();
        message
    }

    fn rule(self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = self.address_family();
        message.header.action = RuleAction::ToTable;
        message.attributes =
            vec![RuleAttribute::Priority(TABLE), RuleAttribute::FwMark(REPLY_MARK), RuleAttribute::Table(TABLE)];
        message
    }
}
