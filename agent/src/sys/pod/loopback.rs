//! How much of a stream crosses a pod's `lo` in one piece.
//!
//! What an application sends reaches the agent over `lo`, and what it receives comes that way. The kernel hands over at most 64 KiB at
//! a time unless the device takes more ("BIG TCP": Linux 5.19 with IPv6, 6.3 with IPv4); nothing there has to fit on a wire, so it
//! does. What a pod or its CNI set itself is left alone.

use std::io;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};

use super::netlink::{LOOPBACK_INDEX, said, with_handle};
use crate::sys::netns::Netns;

/// The kernel's own limit of a piece, in bytes.
const USUAL: u32 = 64 * 1024;

/// Ours, in bytes: two turns of a stream.
const LARGE: u32 = 256 * 1024;

/// Has `lo` take large pieces. Doing it again changes nothing.
///
/// # Errors
/// When netlink refuses (`CAP_NET_ADMIN`; older kernels know no larger size). All works without, with more work for each byte.
pub async fn enlarge(netns: &Netns) -> io::Result<()> {
    replace(netns, USUAL, LARGE).await
}

/// Puts back what [`enlarge`] changed.
///
/// # Errors
/// When netlink refuses.
pub async fn restore(netns: &Netns) -> io::Result<()> {
    replace(netns, LARGE, USUAL).await
}

async fn replace(netns: &Netns, from: u32, to: u32) -> io::Result<()> {
    with_handle(netns, async |handle| {
        let sizes = changed(&attributes(&handle).await?, from, to);
        if sizes.is_empty() {
            return Ok(());
        }
        let message = sizes
            .into_iter()
            .fold(LinkUnspec::new_with_index(LOOPBACK_INDEX), |message, size| message.append_extra_attribute(size));
        handle.link().set(message.build()).execute().await.map_err(said)
    })
    .await
}

async fn attributes(handle: &Handle) -> io::Result<Vec<LinkAttribute>> {
    let mut links = handle.link().get().match_index(LOOPBACK_INDEX).execute();
    Ok(links.try_next().await.map_err(said)?.map(|link| link.attributes).unwrap_or_default())
}

/// The sizes among a device's attributes that are `from`, as they are to be.
fn changed(attributes: &[LinkAttribute], from: u32, to: u32) -> Vec<LinkAttribute> {
    use LinkAttribute::{GroIpv4MaxSize, GroMaxSize, GsoIpv4MaxSize, GsoMaxSize};
    #[expect(clippy::wildcard_enum_match_arm, reason = "four of some sixty attributes are sizes of this kind")]
    let change = |attribute: &LinkAttribute| match attribute {
        GsoMaxSize(size) if *size == from => Some(GsoMaxSize(to)),
        GroMaxSize(size) if *size == from => Some(GroMaxSize(to)),
        GsoIpv4MaxSize(size) if *size == from => Some(GsoIpv4MaxSize(to)),
        GroIpv4MaxSize(size) if *size == from => Some(GroIpv4MaxSize(to)),
        _ => None,
    };
    attributes.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use LinkAttribute::{GroIpv4MaxSize, GroMaxSize, GsoIpv4MaxSize, GsoMaxSize, Mtu};

    use super::*;

    #[test]
    fn only_what_is_as_expected_is_changed() {
        let fresh = [Mtu(USUAL), GsoMaxSize(USUAL), GroMaxSize(USUAL), GsoIpv4MaxSize(USUAL), GroIpv4MaxSize(USUAL)];
        let large = [GsoMaxSize(LARGE), GroMaxSize(LARGE), GsoIpv4MaxSize(LARGE), GroIpv4MaxSize(LARGE)];
        assert_eq!(changed(&fresh, USUAL, LARGE), large);
        assert_eq!(changed(&large, USUAL, LARGE), []);
        let own = [GsoMaxSize(100_000), GroMaxSize(USUAL)];
        assert_eq!(changed(&own, USUAL, LARGE), [GroMaxSize(LARGE)]);
        assert_eq!(changed(&[], USUAL, LARGE), [], "an older kernel");
    }
}
