//! sotto's node agent. A top folder is a layer, and a layer imports only lower ones:
//!
//! | Layer | Folder | Speaks about |
//! |---|---|---|
//! | 6 | `cli`, `settings/` | argv, environment, files |
//! | 5 | `roles/` | who runs what |
//! | 4 | `traffic/`, `control/` | what one connection goes through; pods joining, certificates being signed |
//! | 3 | `mesh/` | the mesh as it is now, and a way to reach a service |
//! | 2 | `drivers/` | one foreign library each: aya, h2, rustls, hyper, kube, tonic |
//! | 1 | `telemetry/` | logs and metrics |
//! | 0 | `model/`, `runtime/`, `sys/` | nouns and pure rules; drain and threads; every libc call |

pub mod cli;
pub mod control;
pub mod drivers;
pub mod mesh;
pub mod model;
pub mod roles;
pub mod runtime;
pub mod settings;
pub mod sys;
pub mod telemetry;
pub mod traffic;
