//! What agents tell of themselves and of connections: metrics, the access log, readiness, profiles.

mod dashboards;
mod profiles;
mod prometheus;
mod readiness;
mod series;
