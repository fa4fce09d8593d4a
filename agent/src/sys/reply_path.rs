//! How an application's replies find the agent when the agent speaks to it from the client's address.
//!
//! The agent's dial carries [`REPLY_MARK`]. `tcp_fwmark_accept` makes the application's accepted socket inherit that mark,
//! `fwmark_reflect` gives it to the reset of a port where nobody listens, and one rule sends what carries it to a table whose
//! only route is "everything is local": the replies go over `lo` to the agent's socket instead of out of the pod. No packet
//! filter is involved.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use futures_util::future::{Either, select};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::netns::Netns;

/// The mark on the agent's transparent dials and so on the application's replies.
pub const REPLY_MARK: u32 = 0x0050_7740;

/// The routing table that holds "everything is local", and the priority of the rule that leads to it.
const TABLE: u32 = 15006;

/// The index of `lo`, the same in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Switches of the pod's namespace: off in a new one, on while the reply path is there. The last is missing without IPv6.
const SWITCHES: [&str; 3] =
    ["/proc/sys/net/ipv4/tcp_fwmark_accept", "/proc/sys/net/ipv4/fwmark_reflect", "/proc/sys/net/ipv6/fwmark_reflect"];

/// Sets the reply path up in a pod's network namespace. Doing it again changes nothing.
///
/// # Errors
/// When `/proc/sys` cannot be written, or netlink refuses the rule or the route (`CAP_NET_ADMIN`).
pub async fn install(netns: &Netns) -> io::Result<()> {
    netns.run(|| switch("1"))??;
    with_handle(netns, async |handle| {
        for family in usable_families(netns)? {
            accept_existing(handle.route().add(family.route()).execute().await)?;
            let mut rule = handle.rule().add();
            *rule.message_mut() = family.rule();
            accept_existing(rule.execute().await)?;
        }
        Ok(())
    })
    .await
}

/// Takes the reply path away again. Connections that still rely on it break.
///
/// # Errors
/// As [`install`]; what is already gone is no error.
pub async fn remove(netns: &Netns) -> io::Result<()> {
    with_handle(netns, async |handle| {
        for family in families(netns)? {
            accept_missing(handle.rule().del(family.rule()).execute().await)?;
            accept_missing(handle.route().del(family.route()).execute().await)?;
        }
        Ok(())
    })
    .await?;
    netns.run(|| switch("0"))?
}

fn switch(value: &str) -> io::Result<()> {
    SWITCHES.iter().filter(|path| fs::exists(path).unwrap_or(true)).try_for_each(|path| fs::write(path, value))
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

/// Opens a netlink socket inside the namespace and drives it while `action` runs.
async fn with_handle<T>(netns: &Netns, action: impl AsyncFnOnce(Handle) -> io::Result<T>) -> io::Result<T> {
    let (connection, handle, _notifications) = netns.run(rtnetlink::new_connection)??;
    let action = std::pin::pin!(action(handle));
    match select(std::pin::pin!(connection), action).await {
        Either::Left(((), _)) => Err(io::Error::other("the netlink connection ended early")),
        Either::Right((result, _)) => result,
    }
}

fn accept_existing(result: Result<(), rtnetlink::Error>) -> io::Result<()> {
    accept(result, &[libc::EEXIST])
}

fn accept_missing(result: Result<(), rtnetlink::Error>) -> io::Result<()> {
    accept(result, &[libc::ENOENT, libc::ESRCH])
}

fn accept(result: Result<(), rtnetlink::Error>, harmless: &[i32]) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(rtnetlink::Error::NetlinkError(message)) => {
            let error = message.to_io();
            if error.raw_os_error().is_some_and(|code| harmless.contains(&code)) { Ok(()) } else { Err(error) }
        }
        Err(other) => Err(io::Error::other(other)),
    }
}
