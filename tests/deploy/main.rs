//! What gets installed: the Helm chart makes what its values ask for, and by default the same as kustomize.
//!
//! `SOTTO_CHART_RENDERER` names the program that renders the chart (`render.go`); without it every test says that it was
//! skipped. `kubectl` is needed where the chart is held against kustomize.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do ends the test")]

mod chart;
mod render;
