//! What the redirection can be told.

use std::path::PathBuf;

use sotto_ebpf::abi::MAX_ORIGINAL_DESTINATIONS;

use crate::sys::mount::BPFFS;

/// Where programs attach and where they are pinned.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's own directory on bpffs. Agents of several nodes on one machine need one each.
    pub pin_dir: PathBuf,
    /// The cgroup2 directory whose processes are captured; `None` takes the root of the hierarchy, wherever it is mounted.
    pub cgroup: Option<PathBuf>,
    /// How many captured connections may wait to be accepted, over all pods. Counts when the map is first made.
    pub original_destinations: u32,
}

impl Config {
    /// The usual configuration of the node of this name.
    #[must_use]
    pub fn for_node(node: &str) -> Self {
        Self {
            pin_dir: PathBuf::from(BPFFS).join("sotto").join(pin_name(node)),
            cgroup: None,
            original_destinations: MAX_ORIGINAL_DESTINATIONS as u32,
        }
    }
}

/// A node's name as bpffs takes it: the file system refuses names with dots. Different names stay different.
fn pin_name(node: &str) -> String {
    use std::fmt::Write;
    node.bytes().fold(String::new(), |mut name, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            _ => write!(name, "_{byte:02x}").expect("writing to a String cannot fail"),
        }
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_become_names_that_bpffs_takes() {
        for (node, pin) in [
            ("worker-1", "worker-1"),
            ("ip-10-0-0-1.ec2.internal", "ip-10-0-0-1_2eec2_2einternal"),
            ("../../etc", "_2e_2e_2f_2e_2e_2fetc"),
            ("a_2e", "a_5f2e"),
        ] {
            assert_eq!(pin_name(node), pin);
        }
    }
}
