//! `/config_dump`: what the agent knows, as JSON. Names are ztunnel's where it has the thing, so that its readers (Kiali, istioctl)
//! find what they look for; beside them is what sotto adds.

pub mod agent;
pub mod build;
pub mod mesh;
pub mod section;
