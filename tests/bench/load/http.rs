//! Small requests at full speed: wrk against a file of 1 KiB in nginx with one worker.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::{DEADLINE, Mesh, Pod, Process, eventually};

use super::program;
use crate::tools::tool;

/// Where nginx serves.
pub(crate) const PORT: u16 = 8080;

/// How many connections wrk keeps busy.
const CONNECTIONS: &str = "16";

/// What a run of wrk came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    /// In microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Connections that broke and answers that were no success.
    pub(crate) errors: f64,
}

/// Serves the file.
pub(crate) fn serve(mesh: &Mesh, pod: &Pod) -> Result<Arc<Process>> {
    let place = mesh.ca_directory().with_file_name(format!("nginx-{}", pod.name()));
    fs::create_dir_all(&place)?;
    fs::write(place.join("1k"), vec![b'x'; 1024])?;
    fs::write(place.join("nginx.conf"), configuration(&place))?;
    let mut command = tool("nginx")?;
    command.arg("-p").arg(&place).arg("-e").arg(place.join("error.log")).arg("-c").arg(place.join("nginx.conf"));
    let nginx = mesh.start_process(pod, &mut command);
    let address = pod.addr(PORT);
    eventually(DEADLINE, &format!("nginx of {pod} answers"), || {
        assert!(nginx.is_running(), "nginx of {pod} ended:\n{}", nginx.log());
        pod.try_connect(address, DEADLINE).ok().map(drop)
    });
    Ok(nginx)
}

fn configuration(place: &Path) -> String {
    let place = place.display();
    format!(
        "daemon off; user root; worker_processes 1; pid {place}/pid;\n\
         events {{ worker_connections 65536; }}\n\
         worker_rlimit_nofile 131072;\n\
         http {{\n\
           access_log off; default_type text/plain; sendfile on; tcp_nopush on; open_file_cache max=10;\n\
           keepalive_requests 1000000000; keepalive_timeout 1h;\n\
           client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;\n\
           uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n\
           server {{ listen {PORT} backlog=4096; root {place}; }}\n\
         }}\n"
    )
}

/// Keeps connections busy; each carries many requests, or one.
pub(crate) fn saturate(client: &Pod, server: SocketAddr, reuse: bool, seconds: u32) -> Result<Http> {
    let mut command = tool("wrk")?;
    command.args(["--threads", "1", "--connections", CONNECTIONS, "--latency", "--timeout", "5s"]);
    command.args(["--duration", &format!("{seconds}s")]);
    if !reuse {
        command.args(["--header", "Connection: close"]);
    }
    command.arg(format!("http://{server}/1k"));
    let text = program::run(client, command, Duration::from_secs(seconds.into()))?;
    let http = read(&text)?;
    ensure!(http.requests > 0.0, "not one request to {server} was answered:\n{text}");
    Ok(http)
}

fn read(text: &str) -> Result<Http> {
    let after = |word: &str| text.lines().find_map(|line| line.trim().strip_prefix(word)).map(str::trim);
    let need = |word: &str| after(word).with_context(|| format!("wrk tells no {word}:\n{text}"));
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let broken: f64 = after("Socket errors:").map_or(0.0, |rest| rest.split(',').filter_map(last_number).sum());
    let refused = after("Non-2xx or 3xx responses:").and_then(last_number).unwrap_or(0.0);
    Ok(Http {
        requests: requests.with_context(|| format!("wrk tells no number of requests:\n{text}"))?,
        per_second: need("Requests/sec:")?.parse()?,
        p50: microseconds(need("50%")?)?,
        p99: microseconds(need("99%")?)?,
        errors: broken + refused,
    })
}

fn last_number(text: &str) -> Option<f64> {
    text.split_whitespace().last()?.parse().ok()
}

/// `1.25ms` and the like.
fn microseconds(text: &str) -> Result<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).context("a duration without a unit")?;
    let factor = match &text[split..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        other => anyhow::bail!("{other} is no unit of wrk's"),
    };
    Ok(text[..split].parse::<f64>()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 2s test @ http://10.0.0.1:8080/1k\n  1 threads and 16 connections\n  Latency Distribution\n     50%  142.00us\n     75%    1.00ms\n     99%    1.19ms\n  203018 requests in 2.00s, 245.07MB read\n  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 5\nRequests/sec: 101509.25\nTransfer/sec:    122.53MB\n";

    #[test]
    fn what_wrk_prints_is_read() {
        let http = read(TEXT).unwrap();
        assert_eq!((http.requests, http.per_second), (203_018.0, 101_509.25));
        assert_eq!((http.p50, http.p99, http.errors), (142.0, 1190.0, 12.0));
    }

    #[test]
    fn an_output_without_figures_is_an_error() {
        assert!(read("unable to connect to 10.0.0.1:8080 Connection refused\n").is_err());
        assert!(microseconds("1.5h").is_err());
    }
}
