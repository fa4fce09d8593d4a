//! A way to reach a service or a workload.
