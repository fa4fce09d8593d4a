//! Loading the object, and attaching what belongs to the whole machine.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::Map;
use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::{Program, ProgramError, SchedClassifier, SkLookup};
use aya::{Ebpf, EbpfLoader};

use super::config::Config;
use super::error::RedirectError;
use super::features;
use super::links;
use super::object::OBJECT;
use super::pins::Pins;
use crate::sys::cgroup;

/// Every map of the object; all are pinned.
const MAPS: [&str; 14] = [
    "PODS",
    "SOCKETS",
    "ORIGINAL_DESTINATIONS",
    "ADMITTED_FLOWS",
    "KUBELETS",
    "LISTENERS",
    "COUNTERS",
    "SYN_RETRY",
    "VERDICTS",
    "LEASE",
    "DIRECT_FLOWS",
    "SERVICES",
    "ENDPOINTS",
    "FLOW_EVENTS",
];

/// Programs at the cgroup root, with the names of their links. The order matters when they are attached for the first
/// time: what records a captured connection is there before what captures it.
const CGROUP_PROGRAMS: [(&str, &str); 5] = [
    ("sotto_sockops", "sockops"),
    ("sotto_peername4", "getpeername4"),
    ("sotto_peername6", "getpeername6"),
    ("sotto_connect4", "connect4"),
    ("sotto_connect6", "connect6"),
];

/// The program in each pod's `sk_lookup` hook.
const INBOUND: &str = "sotto_inbound";
/// The program on each pod's `lo`.
const HOLD: &str = "sotto_hold";

/// The object's programs, loaded.
#[derive(Debug)]
pub(super) struct Programs(Ebpf);

impl Programs {
    /// Loads the object with the maps that are pinned, or new ones, and has the kernel check every program. Nothing is
    /// attached yet, so a failure leaves an earlier agent's programs in force.
    pub(super) fn load(config: &Config, pins: &Pins) -> Result<Self, RedirectError> {
        if OBJECT.is_empty() {
            return Err(RedirectError::NoObject);
        }
        let mut loader = EbpfLoader::new();
        loader.btf(None).map_max_entries("ORIGINAL_DESTINATIONS", config.original_destinations);
        for map in MAPS {
            loader.map_pin_path(map, pins.map(map));
        }
        Self::checked(&mut loader)
    }

    /// Has the kernel check every program, with maps that are gone again at once: nothing is attached, pinned or taken over.
    pub(super) fn probe() -> Result<usize, RedirectError> {
        if OBJECT.is_empty() {
            return Err(RedirectError::NoObject);
        }
        Self::checked(EbpfLoader::new().btf(None))?;
        Ok(CGROUP_PROGRAMS.len() + [INBOUND, HOLD].len())
    }

    fn checked(loader: &mut EbpfLoader<'_>) -> Result<Self, RedirectError> {
        let ebpf = loader.load(OBJECT).map_err(RedirectError::kernel("load the eBPF object"))?;
        let mut programs = Self(ebpf);
        for name in CGROUP_PROGRAMS.iter().map(|(name, _)| *name).chain([INBOUND, HOLD]) {
            programs.check(name)?;
        }
        Ok(programs)
    }

    /// Attaches to the cgroup, or takes over the links that are.
    pub(super) fn attach(&mut self, cgroup: &Path, pins: &Pins) -> Result<(), RedirectError> {
        let directory = File::open(cgroup).map_err(RedirectError::path("open the cgroup", cgroup))?;
        let id = cgroup::id(cgroup).map_err(RedirectError::path("examine the cgroup", cgroup))?;
        for (name, link) in CGROUP_PROGRAMS {
            let program = self.program(name)?;
            let fd = program
                .fd()
                .and_then(|fd| Ok(fd.try_clone()?))
                .map_err(RedirectError::kernel(format!("use the program {name}")))?;
            links::ensure(&pins.link(link), fd.as_fd(), Some(id), || attach_cgroup(program, &directory))?;
        }
        Ok(())
    }

    pub(super) fn inbound(&mut self) -> Result<&mut SkLookup, RedirectError> {
        self.program(INBOUND)?.try_into().map_err(RedirectError::kernel(format!("use the program {INBOUND}")))
    }

    pub(super) fn hold(&mut self) -> Result<&mut SchedClassifier, RedirectError> {
        self.program(HOLD)?.try_into().map_err(RedirectError::kernel(format!("use the program {HOLD}")))
    }

    pub(super) fn take_map(&mut self, name: &str) -> Result<Map, RedirectError> {
        self.0.take_map(name).ok_or_else(|| absent("map", name))
    }

    pub(super) fn program(&mut self, name: &str) -> Result<&mut Program, RedirectError> {
        self.0.program_mut(name).ok_or_else(|| absent("program", name))
    }

    /// Has the kernel verify one program.
    fn check(&mut self, name: &str) -> Result<(), RedirectError> {
        let program = self.program(name)?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the object has four kinds of some thirty")]
        let loaded = match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::SockOps(program) => program.load(),
            Program::SkLookup(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        loaded.map_err(|error| {
            tracing::debug!(program = name, %error, "the kernel refuses the program");
            let kernel = nix::sys::utsname::uname()
                .map_or_else(|_| "unknown".to_owned(), |uname| uname.release().to_string_lossy().into_owned());
            RedirectError::Missing(vec![features::program_missing(name, &kernel, &error.to_string())])
        })
    }
}

/// Attaches one program to a cgroup. A link at a cgroup never displaces another program, whatever its mode says, and
/// kernels differ in which mode they take for one.
fn attach_cgroup(program: &mut Program, cgroup: &File) -> Result<FdLink, ProgramError> {
    let mode = CgroupAttachMode::Single;
    #[expect(clippy::wildcard_enum_match_arm, reason = "two of some thirty kinds attach to cgroups here")]
    match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, mode)?;
            links::pinnable(program.take_link(id)?)
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, mode)?;
            links::pinnable(program.take_link(id)?)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn absent(kind: &str, name: &str) -> RedirectError {
    let cause = format!("the eBPF object has no {kind} of this name: it is not of this version").into();
    RedirectError::Kernel { action: format!("find the {kind} {name}"), cause }
}
