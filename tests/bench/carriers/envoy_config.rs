//! Envoy's configuration as Istio makes it for a sidecar: one listener for each direction behind `original_dst`, mutual TLS
//! in HTTP/1.1 or plain TCP between the sidecars, access log and statistics on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use harness::Pod;
use serde_json::{Value, json};

use crate::load::{bulk, http};

/// Where Envoy serves its admin pages, in the pod.
pub(super) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// Istio's form of a line in the access log of TCP, shortened by what is always empty here.
const LOG_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \"%DOWNSTREAM_PEER_URI_SAN%\" \
    \"%UPSTREAM_PEER_URI_SAN%\"\n";

/// What the sidecars make of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Bytes: every connection has a TLS connection of its own.
    Tcp,
    /// Requests: connections between the sidecars are pooled.
    Http,
}

/// Files of one sidecar.
#[derive(Debug)]
pub(super) struct Secrets {
    pub(super) roots: PathBuf,
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "envoy-tcp",
            Self::Http => "envoy-http",
        }
    }
}

/// The configuration of the sidecar of `own`, one of the two pods.
pub(super) fn bootstrap(mode: Mode, own: &Pod, server: &Pod, client: &Pod, secrets: &Secrets) -> Value {
    let ports = [http::PORT, bulk::PORT];
    let outbound = ports.map(|port| chain(mode, port, &format!("outbound|{port}"), None));
    let inbound =
        ports.map(|port| chain(mode, port, &format!("inbound|{port}"), Some(downstream_tls(secrets, client))));
    let clusters = ports.iter().flat_map(|port| {
        let remote =
            cluster(&format!("outbound|{port}"), &server.ip().to_string(), *port, Some(upstream_tls(secrets, server)));
        // The application listens on the pod's address; Istio binds 127.0.0.6 to keep the capture out of the way.
        let mut local = cluster(&format!("inbound|{port}"), &own.ip().to_string(), *port, None);
        local["upstream_bind_config"] = json!({ "source_address": { "address": "127.0.0.6", "port_value": 0 } });
        [remote, local]
    });
    json!({
        "admin": { "address": address(&ADMIN.ip().to_string(), ADMIN.port()) },
        "node": { "id": own.name(), "cluster": "bench" },
        "static_resources": {
            "listeners": [listener("virtualOutbound", 15001, &outbound, false), listener("virtualInbound", 15006, &inbound, true)],
            "clusters": clusters.collect::<Vec<_>>(),
        },
    })
}

fn listener(name: &str, port: u16, chains: &[Value], inbound: bool) -> Value {
    let filter = |kind: &str, of: &str| {
        json!({
            "name": format!("envoy.filters.listener.{kind}"),
            "typed_config": { "@type": format!("type.googleapis.com/envoy.extensions.filters.listener.{kind}.v3.{of}") },
        })
    };
    let mut filters = vec![filter("original_dst", "OriginalDst")];
    if inbound {
        filters.push(filter("tls_inspector", "TlsInspector"));
    }
    json!({
        "name": name,
        "address": address("0.0.0.0", port),
        "traffic_direction": if inbound { "INBOUND" } else { "OUTBOUND" },
        "listener_filters": filters,
        "filter_chains": chains,
    })
}

fn chain(mode: Mode, port: u16, cluster: &str, tls: Option<Value>) -> Value {
    let filter = if mode == Mode::Http && port == http::PORT { requests(cluster) } else { bytes(cluster) };
    let mut matches = json!({ "destination_port": port });
    if tls.is_some() {
        matches["transport_protocol"] = json!("tls");
    }
    let mut chain = json!({ "filter_chain_match": matches, "filters": [filter] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    chain
}

fn bytes(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": cluster,
            "cluster": cluster,
            "access_log": [access_log()],
        },
    })
}

fn requests(cluster: &str) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": cluster,
            "access_log": [access_log()],
            "http_filters": [router],
            "route_config": {
                "name": cluster,
                "virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } }],
                }],
            },
        },
    })
}

fn access_log() -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/stdout",
            "log_format": { "text_format_source": { "inline_string": LOG_FORMAT } },
        },
    })
}

fn cluster(name: &str, ip: &str, port: u16, tls: Option<Value>) -> Value {
    let limits = json!({
        "max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX, "max_retries": u32::MAX,
    });
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": { "thresholds": [limits] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(ip, port) } }] }],
        },
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}

fn address(ip: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": ip, "port_value": port } })
}

fn downstream_tls(secrets: &Secrets, client: &Pod) -> Value {
    tls("Downstream", &json!({ "require_client_certificate": true, "common_tls_context": common(secrets, client) }))
}

fn upstream_tls(secrets: &Secrets, server: &Pod) -> Value {
    tls("Upstream", &json!({ "common_tls_context": common(secrets, server) }))
}

fn tls(side: &str, context: &Value) -> Value {
    let mut typed = context.clone();
    typed["@type"] = json!(format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext"));
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": typed })
}

/// TLS 1.3, the own certificate, and who the other side has to be.
fn common(secrets: &Secrets, peer: &Pod) -> Value {
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "alpn_protocols": ["istio"],
        "tls_certificates": [{
            "certificate_chain": { "filename": secrets.chain },
            "private_key": { "filename": secrets.key },
        }],
        "validation_context": {
            "trusted_ca": { "filename": secrets.roots },
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": peer.identity() } }],
        },
    })
}
