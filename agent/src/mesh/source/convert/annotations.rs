//! The annotations that mean something to the conversion. Sources may drop all others.

/// What a pod with an injected sidecar carries.
pub const SIDECAR: &str = "sidecar.istio.io/status";

/// Where a pod's network namespace is, where no container runtime can be asked.
pub const NETNS: &str = "sotto.dev/netns";

/// A policy that is only to be tried.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// What tells on a pod that its traffic is carried (`enabled`), as Istio's agents do.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";

/// The value of [`REDIRECTION`] on a pod that is carried.
pub const REDIRECTION_ENABLED: &str = "enabled";

/// Whether any rule reads the annotation of this name.
#[must_use]
pub fn is_read(key: &str) -> bool {
    matches!(key, SIDECAR | NETNS | DRY_RUN | REDIRECTION)
}
