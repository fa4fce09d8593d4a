//! What the process is allowed to do.

use std::fs;
use std::io;

/// A privilege, by its number in the kernel's `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Networks: attach programs to them, listen and speak for others' addresses.
    NetAdmin = 12,
    /// Nearly everything; here, entering other namespaces and mounting.
    SysAdmin = 21,
    /// Reading kernel memory through programs; the verifier asks for it when a program does more than the simplest.
    Perfmon = 38,
    /// Loading programs and making maps.
    Bpf = 39,
}

/// The capabilities that are in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Those of this process.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn of_this_process() -> io::Result<Self> {
        parse(&fs::read_to_string("/proc/self/status")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status has no CapEff line"))
    }

    /// Exactly these.
    #[must_use]
    pub fn of(capabilities: &[Capability]) -> Self {
        Self(capabilities.iter().fold(0, |bits, &capability| bits | 1 << capability as u32))
    }

    /// Whether one is among them. `CAP_SYS_ADMIN` stands in for `CAP_BPF` and `CAP_PERFMON`, which were once part of it.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        let mask = match capability {
            Capability::NetAdmin | Capability::SysAdmin => 1 << capability as u32,
            Capability::Perfmon | Capability::Bpf => 1 << capability as u32 | 1 << Capability::SysAdmin as u32,
        };
        self.0 & mask != 0
    }
}

fn parse(status: &str) -> Option<Capabilities> {
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(bits.trim(), 16).ok().map(Capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_set() {
        let parsed = parse("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000008000001000\nCapBnd:\tff\n").unwrap();
        assert_eq!(parsed, Capabilities::of(&[Capability::NetAdmin, Capability::Bpf]));
        assert!(parsed.has(Capability::Bpf) && !parsed.has(Capability::Perfmon) && !parsed.has(Capability::SysAdmin));
        assert_eq!(parse("CapEff:\tnonsense\n"), None);
        assert_eq!(parse("Name:\tx\n"), None);
    }

    #[test]
    fn sys_admin_stands_in_for_what_was_split_from_it() {
        let admin = Capabilities::of(&[Capability::SysAdmin]);
        assert!(admin.has(Capability::Bpf) && admin.has(Capability::Perfmon) && !admin.has(Capability::NetAdmin));
    }
}
