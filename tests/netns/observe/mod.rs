//! What agents tell of themselves and of connections: metrics, the access log, readiness.

mod dashboards;
mod prometheus;
mod readiness;
mod series;
