//! Taking on one pod: everything that has to be there before its first connection is captured.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::ifaddrs::getifaddrs;

use super::locate::{Locate, LocateError, Located};
use super::plan::Wanted;
use super::{listeners, namespace};
use crate::drivers::certs::store::CredentialsError;
use crate::drivers::redirect::{PodAddresses, Redirect, RedirectError, Role};
use crate::mesh::local::Listeners;
use crate::sys::netns::{Netns, NetnsCookie};

/// Why a pod cannot be carried (yet).
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its namespace is not to be found.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// Its namespace cannot be entered.
    #[error("its network namespace {path} cannot be entered: {source}")]
    Netns {
        /// By what path it was opened.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path leads to the agent's own namespace: capturing it would capture the node.
    #[error("its network namespace {0} is the node's own; a pod on the host network cannot join")]
    HostNetns(PathBuf),
    /// Two pods name one namespace: one of them would speak with the other's identity.
    #[error("its network namespace {path} already belongs to pod {other}")]
    SharedNetns {
        /// By what path it was opened.
        path: PathBuf,
        /// Who has it.
        other: String,
    },
    /// The namespace does not have the pod's address, so it may be another pod's.
    #[error("its network namespace {path} has no address {ip}; is the path right, and is the pod's network up?")]
    Address {
        /// By what path it was opened.
        path: PathBuf,
        /// The address that the pod's status names.
        ip: IpAddr,
    },
    /// There is no certificate (yet).
    #[error(transparent)]
    Certificate(#[from] CredentialsError),
    /// Listeners or routes could not be made.
    #[error("its network namespace cannot be prepared: {0}")]
    Prepare(#[source] io::Error),
    /// The programs or maps refused.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
}

impl JoinError {
    /// Whether it is only a matter of moments: the first certificate is being signed.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        matches!(self, Self::Certificate(CredentialsError::NotIssued { last_error: None, .. }))
    }
}

/// Opens the pod's namespace and makes sure that it is the pod's.
///
/// # Errors
/// [`JoinError`]
pub fn open_netns(locate: &mut dyn Locate, wanted: &Wanted, host: NetnsCookie) -> Result<Located, JoinError> {
    let located = locate.open(wanted.sought())?;
    let (netns, path) = (&located.netns, &located.path);
    if netns.cookie() == host {
        return Err(JoinError::HostNetns(path.clone()));
    }
    let failed = |source| JoinError::Netns { path: path.clone(), source };
    let present = netns.run(addresses).and_then(|found| found).map_err(failed)?;
    match wanted.ips.iter().find(|ip| !present.contains(ip)) {
        Some(&ip) => Err(JoinError::Address { path: path.clone(), ip }),
        None => Ok(located),
    }
}

fn addresses() -> io::Result<Vec<IpAddr>> {
    let found = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(found.collect())
}

/// Makes everything ready in the pod's namespace: replies, listeners and the programs that choose them.
///
/// # Errors
/// [`JoinError::Prepare`], [`JoinError::Redirect`]
pub async fn prepare(
    redirect: &mut Redirect,
    wanted: &Wanted,
    netns: &Netns,
    threads: usize,
) -> Result<Vec<Listeners>, JoinError> {
    namespace::set_up(netns, &wanted.name).await.map_err(JoinError::Prepare)?;
    let sets = listeners::open(netns, threads).map_err(JoinError::Prepare)?;
    let Some(first) = sets.first() else { return Ok(sets) };
    for &ip in &wanted.ips {
        redirect.listen(ip, Role::Outbound, &first.outbound)?;
        redirect.listen(ip, Role::Plaintext, &first.plaintext)?;
        redirect.listen(ip, Role::Hbone, &first.hbone)?;
    }
    redirect.attach_pod(netns)?;
    Ok(sets)
}

/// Begins the capture of the pod's connections.
///
/// # Errors
/// [`JoinError::Redirect`]
pub fn capture(redirect: &mut Redirect, wanted: &Wanted, cookie: NetnsCookie) -> Result<(), JoinError> {
    let v4 = wanted.ips.iter().find_map(|ip| match ip {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = wanted.ips.iter().find_map(|ip| match ip {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    Ok(redirect.enrol(cookie, &PodAddresses::new(v4, v6))?)
}
