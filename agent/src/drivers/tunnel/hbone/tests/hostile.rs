//! Peers that break rules or try to exhaust us: each is contained, and the next good peer is served.

use super::raw::{self, Raw, block, connect, frame};
use super::*;

use tokio::io::DuplexStream;

/// A server with a peer of raw frames.
struct Victim {
    raw: Raw<DuplexStream>,
    serving: JoinSet<Result<(), TunnelError>>,
}

impl Victim {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let (one, other) = tokio::io::duplex(1 << 20);
        let mut serving = JoinSet::new();
        serving.spawn(async move { serve(other, &config, std::future::pending(), application).await });
        Self { raw: Raw::new(one), serving }
    }

    async fn with_preface() -> Self {
        let mut victim = Self::new();
        victim.raw.send_preface().await;
        victim
    }

    /// What the server made of it.
    async fn result(&mut self) -> Result<(), TunnelError> {
        soon(self.serving.join_next()).await.unwrap().unwrap()
    }

    async fn assert_expelled(mut self) {
        let result = self.result().await;
        assert!(matches!(result, Err(TunnelError::Protocol(_))), "{result:?}");
        Tunnel::in_memory().await.assert_works().await;
    }

    /// Expelled with a GOAWAY that names the limit.
    async fn assert_limited_by(mut self, limit: &str) {
        let goaway = soon(self.raw.read_kind(raw::GOAWAY)).await.unwrap();
        assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
        assert_eq!(String::from_utf8_lossy(&goaway.payload[8..]), limit);
        self.assert_expelled().await;
    }

    /// The status with which a request is refused, as the client's decoder reads it.
    async fn refused_with(&mut self, stream: u32, status: &str) {
        let answer = soon(self.raw.read_kind(raw::HEADERS)).await.unwrap();
        assert_eq!(answer.stream, stream);
        assert_ne!(answer.flags & raw::END_STREAM, 0);
        // HPACK: `:status 400` is entry 12 of the static table.
        assert_eq!((status, answer.payload[0]), ("400", 0x8c));
    }

    /// The connection goes on: another request on it is served.
    async fn assert_still_serves(&mut self, stream: u32) {
        self.raw.write(&connect(stream, "10.0.0.1:1")).await.unwrap();
        loop {
            let answer = soon(self.raw.read_kind(raw::HEADERS)).await.unwrap();
            if answer.stream == stream {
                assert_eq!(answer.payload[0], 0x88);
                return;
            }
        }
    }

    async fn reset_with(&mut self, stream: u32, code: u32) {
        loop {
            let reset = soon(self.raw.read_kind(raw::RST_STREAM)).await.unwrap();
            // A refused stream whose client has not ended it is reset with NO_ERROR after the answer.
            if reset.payload[..] != [0; 4] {
                assert_eq!((reset.stream, &reset.payload[..]), (stream, &code.to_be_bytes()[..]));
                return;
            }
        }
    }
}

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn garbage_instead_of_a_preface() {
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], &[0; 64]] {
        let mut victim = Victim::new();
        victim.raw.write(garbage).await.unwrap();
        victim.assert_expelled().await;
    }
}

#[tokio::test]
async fn garbage_after_the_preface() {
    for garbage in [
        frame(raw::HEADERS, raw::END_HEADERS, 1, &[0xff; 40]),
        frame(raw::DATA, 0, 1, b"x"),
        frame(raw::CONTINUATION, 0, 1, b"x"),
        frame(raw::SETTINGS, 0, 0, &[1, 2, 3]),
        frame(raw::WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(raw::HEADERS, raw::END_HEADERS, 2, &block(&[(":method", "CONNECT"), (":authority", "10.0.0.1:1")])),
        vec![0xff; 9],
    ] {
        let mut victim = Victim::with_preface().await;
        victim.raw.write(&garbage).await.unwrap();
        victim.assert_expelled().await;
    }
}

#[tokio::test]
async fn requests_that_are_not_hbone_are_refused_one_by_one() {
    let mut victim = Victim::with_preface().await;
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "10.0.0.1:1"), (":path", "/")];
    victim.raw.write(&frame(raw::HEADERS, raw::END_HEADERS, 1, &block(&get))).await.unwrap();
    victim.refused_with(1, "400").await;

    let extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "10.0.0.1:1"),
        (":path", "/"),
    ];
    victim.raw.write(&frame(raw::HEADERS, raw::END_HEADERS, 3, &block(&extended))).await.unwrap();
    victim.reset_with(3, PROTOCOL_ERROR).await;

    let with_path = [(":method", "CONNECT"), (":authority", "10.0.0.1:1"), (":path", "/")];
    victim.raw.write(&frame(raw::HEADERS, raw::END_HEADERS, 5, &block(&with_path))).await.unwrap();
    victim.reset_with(5, PROTOCOL_ERROR).await;

    for (stream, authority) in
        [(7, "10.0.0.1"), (9, "u@10.0.0.1:1"), (11, "10.0.0.1:0"), (13, "10.1:1"), (15, "a..b:1")]
    {
        victim.raw.write(&connect(stream, authority)).await.unwrap();
        victim.refused_with(stream, "400").await;
    }
    victim.raw.write(&connect(17, "10.0.0.1:1 x")).await.unwrap();
    victim.reset_with(17, PROTOCOL_ERROR).await;
    victim.raw.write(&frame(raw::HEADERS, raw::END_HEADERS, 19, &block(&[(":method", "CONNECT")]))).await.unwrap();
    victim.refused_with(19, "400").await;
    victim.assert_still_serves(21).await;
}

#[tokio::test]
async fn giant_headers_are_refused_or_end_the_connection() {
    let long = "x".repeat(15_000);
    let too_large: Vec<(&str, &str)> = vec![("a", &long); 5];
    let fields = [vec![(":method", "CONNECT"), (":authority", "10.0.0.1:1")], too_large].concat();
    let bytes = block(&fields);
    let mut victim = Victim::with_preface().await;
    let (first, rest) = bytes.split_at(16_000);
    victim.raw.write(&frame(raw::HEADERS, 0, 1, first)).await.unwrap();
    let pieces: Vec<&[u8]> = rest.chunks(16_000).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let flags = if n + 1 == pieces.len() { raw::END_HEADERS } else { 0 };
        victim.raw.write(&frame(raw::CONTINUATION, flags, 1, piece)).await.unwrap();
    }
    let answer = soon(victim.raw.read_kind(raw::HEADERS)).await.unwrap();
    assert_eq!((answer.stream, answer.flags & raw::END_STREAM), (1, raw::END_STREAM), "431");
    victim.assert_still_serves(3).await;

    // One string of a megabyte.
    let mut victim = Victim::with_preface().await;
    let bytes = block(&[("a", &"x".repeat(1 << 20))]);
    let mut flags = raw::HEADERS;
    for piece in bytes.chunks(16_000) {
        if victim.raw.write(&frame(flags, 0, 1, piece)).await.is_err() {
            break;
        }
        flags = raw::CONTINUATION;
    }
    victim.assert_limited_by("too_many_continuations").await;
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let mut victim = Victim::with_preface().await;
    victim.raw.write(&frame(raw::HEADERS, 0, 1, &[])).await.unwrap();
    let mut sent = 0;
    while sent < 100_000 && victim.raw.write(&frame(raw::CONTINUATION, 0, 1, &[])).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100_000, "nobody stopped it");
    victim.assert_limited_by("too_many_continuations").await;
}

#[tokio::test]
async fn a_flood_of_rapid_resets_ends_the_connection() {
    let mut victim = Victim::with_preface().await;
    let mut batch = Vec::new();
    for n in 0..5000 {
        batch.extend(connect(2 * n + 1, "10.0.0.1:8"));
        batch.extend(frame(raw::RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    let _ = victim.raw.write(&batch).await;
    victim.assert_limited_by("too_many_resets").await;
}

#[tokio::test]
async fn a_flood_of_abandoned_requests_ends_the_connection() {
    let mut victim = Victim::with(Config { abandoned_streams: 50, ..Config::default() });
    victim.raw.send_preface().await;
    for n in 0..1000 {
        let request = connect(2 * n + 1, "10.0.0.1:8");
        let reset = frame(raw::RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes());
        if victim.raw.write(&request).await.is_err() {
            break;
        }
        // So that the request is seen before the reset.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        if victim.raw.write(&reset).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    victim.assert_limited_by("").await;
}

#[tokio::test]
async fn ten_thousand_streams_are_not_opened() {
    let mut victim = Victim::with_preface().await;
    let requests: Vec<u8> = (0..10_000).flat_map(|n| connect(2 * n + 1, "10.0.0.1:8")).collect();
    let _ = victim.raw.write(&requests).await;
    for n in 200..4000 {
        let refused = soon(victim.raw.read_kind(raw::RST_STREAM)).await.unwrap();
        assert_eq!((refused.stream, &refused.payload[..]), (2 * n + 1, &[0, 0, 0, 7][..]));
    }
    victim.assert_limited_by("too_many_internal_resets").await;
}

/// Streams that were reset do not count for HTTP/2, but their handlers may still be busy.
#[tokio::test]
async fn handlers_that_wind_up_slowly_are_not_piled_up() {
    let mut victim = Victim::with(Config { max_streams: 4, ..Config::default() });
    victim.raw.send_preface().await;
    let mut refused = 0;
    for n in 0..20 {
        let stream = 2 * n + 1;
        victim.raw.write(&connect(stream, &format!("10.0.0.1:{}", App::Deaf as u16))).await.unwrap();
        victim.raw.write(&frame(raw::PING, 0, 0, b"question")).await.unwrap();
        // The answer tells that the request was seen.
        loop {
            let answer = soon(victim.raw.read_frame()).await.unwrap();
            refused += usize::from(answer.kind == raw::RST_STREAM);
            if answer.kind == raw::PING {
                break;
            }
        }
        victim.raw.write(&frame(raw::RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await.unwrap();
    }
    assert!((11..=12).contains(&refused), "{refused} of 20 refused, 8 handlers may be busy");
}

#[tokio::test]
async fn a_stream_that_ignores_its_window_is_reset() {
    let mut victim = Victim::with_preface().await;
    soon(victim.raw.read_kind(raw::WINDOW_UPDATE)).await.unwrap();
    victim.raw.write(&connect(1, &format!("10.0.0.1:{}", App::Stall as u16))).await.unwrap();
    for _ in 0..66 {
        victim.raw.write(&frame(raw::DATA, 0, 1, &[0; 16_000])).await.unwrap();
    }
    victim.reset_with(1, 3).await;
    victim.assert_still_serves(3).await;
}

#[tokio::test]
async fn a_flood_of_tiny_frames_to_a_stalled_reader_ends_the_connection() {
    let mut victim = Victim::with(Config { small_frame_budget: 1 << 20, ..Config::default() });
    victim.raw.send_preface().await;
    victim.raw.write(&connect(1, &format!("10.0.0.1:{}", App::Stall as u16))).await.unwrap();
    let many = frame(raw::DATA, 0, 1, &[0]).repeat(1000);
    let mut batches = 0;
    while batches < 1000 && victim.raw.write(&many).await.is_ok() {
        batches += 1;
    }
    assert!(batches < 1000, "nobody stopped it");
    victim.assert_limited_by("too_many_data_frames").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_preface_slow_settings_and_slow_headers_end_the_connection() {
    let dawdle = |bytes: Vec<u8>, prompt: usize| async move {
        let mut victim = Victim::new();
        victim.raw.write(&bytes[..prompt]).await.unwrap();
        for byte in &bytes[prompt..] {
            tokio::time::sleep(Duration::from_secs(2)).await;
            if victim.raw.write(&[*byte]).await.is_err() {
                break;
            }
        }
        victim.result().await
    };
    let greeting = [raw::PREFACE, &frame(raw::SETTINGS, 0, 0, &[])].concat();
    let request = [greeting.clone(), connect(1, "10.0.0.1:1")].concat();
    let limit = Duration::from_secs(10);
    assert_eq!(dawdle(greeting.clone(), 0).await, Err(TunnelError::Handshake(limit)));
    assert_eq!(dawdle(greeting.clone(), 24).await, Err(TunnelError::Handshake(limit)));
    assert_eq!(dawdle(request, greeting.len() + 10).await, Err(TunnelError::SlowHeaders(limit)));
    Tunnel::in_memory().await.assert_works().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_or_nonsense_ends_the_clients_tunnel() {
    let (one, _other) = tokio::io::duplex(1 << 16);
    let (_client, connection) = handshake(one, &Config::default()).await.unwrap();
    assert_eq!(connection.await, Err(TunnelError::Handshake(Duration::from_secs(10))));

    for nonsense in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &frame(raw::HEADERS, 4, 2, &[0x88]), &[0xff; 100]] {
        let (one, other) = tokio::io::duplex(1 << 16);
        let (client, connection) = handshake(one, &Config::default()).await.unwrap();
        let mut server = Raw::new(other);
        server.write(nonsense).await.unwrap();
        let request = to(App::Echo);
        let (result, opened) = soon(async { tokio::join!(connection, client.open(&request)) }).await;
        assert!(result.is_err(), "{result:?}");
        assert!(opened.is_err());
    }
}
