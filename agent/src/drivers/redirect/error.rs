//! What can go wrong between the agent and the kernel.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::features::Missing;

/// Why the redirection does not work, or a part of it.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The object is not in the binary.
    #[error("this binary was built without its eBPF programs: run `cargo xtask build`")]
    NoObject,
    /// The machine, or what the process may do on it, is not enough.
    #[error("this machine cannot redirect connections: {}", Listed(.0))]
    Missing(Vec<Missing>),
    /// Another agent has the same directory of pins.
    #[error("an agent of this node already runs on this machine (it has locked {}): end it first, or give this one another --node name", .0.display())]
    InUse(PathBuf),
    /// The kernel refused something.
    #[error("cannot {action}: {cause}")]
    Kernel {
        /// What was tried, with the object's name.
        action: String,
        /// What the kernel, or the library, said.
        cause: Box<dyn Error + Send + Sync>,
    },
}

impl RedirectError {
    /// For `map_err`: the kernel refused to do `action`.
    pub(super) fn kernel<E: Error + Send + Sync + 'static>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |cause| Self::Kernel { action, cause: Box::new(cause) }
    }

    /// The same about a path.
    pub(super) fn path(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::kernel(format!("{action} {}", path.display()))
    }
}

struct Listed<'a>(&'a [Missing]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, missing) in self.0.iter().enumerate() {
            write!(f, "{}{}: {}", if index == 0 { "" } else { "; " }, missing.feature, missing.remedy)?;
        }
        Ok(())
    }
}
