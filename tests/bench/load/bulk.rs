//! Bulk transfers: iperf3, from the client to the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::{Mesh, Pod, Process};
use serde_json::Value;

use super::program;
use crate::tools::tool;

/// Where iperf3 serves.
pub(crate) const PORT: u16 = 5201;

/// What a transfer came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    /// Received, in bits per second.
    pub(crate) rate: f64,
    /// Received.
    pub(crate) bytes: f64,
}

/// Serves transfers, one after the other.
pub(crate) fn serve(mesh: &Mesh, pod: &Pod) -> Result<Arc<Process>> {
    let mut command = tool("iperf3")?;
    command.args(["--server", "--port", &PORT.to_string()]);
    Ok(mesh.start_process(pod, &mut command))
}

/// Moves as much as goes.
pub(crate) fn transfer(client: &Pod, server: SocketAddr, streams: u32, seconds: u32) -> Result<Bulk> {
    let mut command = tool("iperf3")?;
    command.args(["--json", "--client", &server.ip().to_string(), "--port", &server.port().to_string()]);
    command.args(["--time", &seconds.to_string(), "--parallel", &streams.to_string()]);
    let text = program::run(client, command, Duration::from_secs(seconds.into()))?;
    read(&text)
}

fn read(text: &str) -> Result<Bulk> {
    let report: Value = serde_json::from_str(text).context("iperf3 printed no JSON")?;
    let received = &report["end"]["sum_received"];
    let number =
        |name: &str| received[name].as_f64().with_context(|| format!("iperf3 tells no {name}: {}", report["error"]));
    Ok(Bulk { rate: number("bits_per_second")?, bytes: number("bytes")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_counts() {
        let text = r#"{"end":{"sum_sent":{"bytes":9},"sum_received":{"bytes":7,"bits_per_second":28.5}}}"#;
        let bulk = read(text).unwrap();
        assert_eq!((bulk.bytes, bulk.rate), (7.0, 28.5));
        assert!(read(r#"{"error":"refused","end":{}}"#).unwrap_err().to_string().contains("refused"));
    }
}
