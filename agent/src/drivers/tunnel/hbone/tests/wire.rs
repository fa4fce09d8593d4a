//! What goes over the wire is what ztunnel and Envoy expect.

use tokio::io::AsyncReadExt;

use super::raw::{self, Raw, block, frame};
use super::*;

use crate::model::authority::Authority;
use crate::model::forwarded::Forwarded;
use crate::model::traceparent::Traceparent;

fn settings(frame: &raw::Frame) -> Vec<(u16, u32)> {
    let setting = |bytes: &[u8]| {
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        (id, u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
    };
    let mut all: Vec<_> = frame.payload.chunks(6).map(setting).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn the_client_sends_a_plain_connect() {
    let (one, other) = tokio::io::duplex(1 << 20);
    let (client, connection) = handshake(one, &Config::default()).await.unwrap();
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = ConnectRequest {
        authority: "web.demo.svc.cluster.local:8080".parse::<Authority>().unwrap(),
        baggage: BaggageText::received("k8s.cluster.name=c,k8s.namespace.name=demo"),
        forwarded: Some(Forwarded::parse(r#"for="10.0.0.9:999";host=web"#)),
        traceparent: Some(Traceparent::new(1, 2)),
    };
    driving.spawn(async move { client.open(&request).await.map(drop).map_err(|_| TunnelError::Closed) });

    let mut raw = Raw::new(other);
    let mut preface = [0; 24];
    raw.0.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, raw::PREFACE);
    let first = soon(raw.read_frame()).await.unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (raw::SETTINGS, 0, 0));
    // ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE
    assert_eq!(settings(&first), [(2, 0), (4, 1 << 20), (5, 64 << 10), (6, 16 << 10)]);
    let window = soon(raw.read_kind(raw::WINDOW_UPDATE)).await.unwrap();
    assert_eq!(window.payload[..], (Config::default().connection_window() - 65_535).to_be_bytes());

    let headers = soon(raw.read_kind(raw::HEADERS)).await.unwrap();
    assert_eq!((headers.flags, headers.stream), (raw::END_HEADERS, 1), "one frame that leaves the stream open");
    let fields = decode(&headers.payload).await;
    assert_eq!(
        fields,
        [
            (":method", "CONNECT"),
            (":authority", "web.demo.svc.cluster.local:8080"),
            ("baggage", "k8s.cluster.name=c,k8s.namespace.name=demo"),
            ("forwarded", r#"for="10.0.0.9:999";host=web"#),
            ("traceparent", "00-00000000000000000000000000000001-0000000000000002-00"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

/// Lets h2's own decoder read a header block: the server of a second connection gets it as a request. It refuses a
/// CONNECT with `:scheme` or `:path` (RFC 9113, section 8.5).
async fn decode(header_block: &[u8]) -> Vec<(String, String)> {
    let (one, other) = tokio::io::duplex(1 << 20);
    let mut raw = Raw::new(one);
    raw.send_preface().await;
    raw.write(&frame(raw::HEADERS, raw::END_HEADERS, 1, header_block)).await.unwrap();
    let mut server = h2::server::handshake(other).await.unwrap();
    let (request, _) = soon(server.accept()).await.unwrap().unwrap();
    assert_eq!((request.uri().scheme(), request.uri().path_and_query()), (None, None));
    let pseudo = [(":method", request.method().as_str()), (":authority", request.uri().authority().unwrap().as_str())];
    let mut fields: Vec<(String, String)> = pseudo.map(|(name, value)| (name.into(), value.into())).to_vec();
    for (name, value) in request.headers() {
        fields.push((name.to_string(), value.to_str().unwrap().to_owned()));
    }
    fields
}

#[tokio::test]
async fn the_server_tells_its_limits_and_answers_200() {
    let (one, other) = tokio::io::duplex(1 << 20);
    let mut serving = JoinSet::new();
    serving.spawn(async move { serve(other, &Config::default(), std::future::pending(), application).await });
    let mut raw = Raw::new(one);
    raw.send_preface().await;
    let first = soon(raw.read_frame()).await.unwrap();
    // MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE
    assert_eq!(settings(&first), [(3, 200), (4, 1 << 20), (5, 64 << 10), (6, 64 << 10)]);

    let fields = [
        (":method", "CONNECT"),
        (":authority", "10.0.0.1:1"),
        ("baggage", "k8s.cluster.name=Kubernetes,k8s.deployment.name=x"),
        ("forwarded", "for=\"10.1.1.1:1234\""),
        ("x-istio-source", "waypoint"),
    ];
    raw.write(&frame(raw::HEADERS, raw::END_HEADERS, 1, &block(&fields))).await.unwrap();
    let answer = soon(raw.read_kind(raw::HEADERS)).await.unwrap();
    assert_eq!((answer.flags, answer.stream), (raw::END_HEADERS, 1), "the stream stays open");
    assert_eq!(answer.payload[0], 0x88, ":status 200");

    raw.write(&frame(raw::DATA, raw::END_STREAM, 1, b"abc")).await.unwrap();
    let data = soon(raw.read_kind(raw::DATA)).await.unwrap();
    assert_eq!((&data.payload[..], data.flags), (&b"abc"[..], 0));
    let end = soon(raw.read_kind(raw::DATA)).await.unwrap();
    assert_eq!((end.payload.len(), end.flags), (0, raw::END_STREAM));
}

#[tokio::test]
async fn both_ends_send_pings_and_answer_them() {
    tokio::time::pause();
    let (one, other) = tokio::io::duplex(1 << 20);
    let mut serving = JoinSet::new();
    serving.spawn(async move { serve(other, &Config::default(), std::future::pending(), application).await });
    let mut raw = Raw::new(one);
    raw.send_preface().await;
    raw.write(&frame(raw::PING, 0, 0, b"12345678")).await.unwrap();
    let pong = raw.read_kind(raw::PING).await.unwrap();
    assert_eq!((pong.flags, &pong.payload[..]), (1, &b"12345678"[..]));
    for _ in 0..5 {
        let ping = raw.read_kind(raw::PING).await.unwrap();
        assert_eq!(ping.flags, 0);
        raw.write(&frame(raw::PING, 1, 0, &ping.payload)).await.unwrap();
    }
}
