//! A tunnel's server with a hostile client, and the account of frames that is kept below it.

use std::time::Duration;

use sotto::drivers::tunnel::hbone::frames::{Scanner, Seen};
use sotto::drivers::tunnel::hbone::server::{Incoming, serve};
use sotto::drivers::tunnel::{Config, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    block, frame,
};

pub(crate) const WORDS: &[&str] = &[
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ":method",
    "CONNECT",
    ":authority",
    "10.0.0.1:80",
    ":path",
    ":scheme",
    ":protocol",
    "baggage",
    "service.name=a",
    "forwarded",
    "traceparent",
    "host",
    "\u{1}\u{4}\0\0\0\u{1}",
    "\u{1}\u{5}\0\0\0\u{3}",
];

/// However a peer behaves, once it is silent its tunnel ends within this: a handshake, or a PING without an answer.
const SILENCE: Duration = Duration::from_secs(60);

/// How an input is played; its first byte.
#[derive(Clone, Copy)]
struct Play(u8);

impl Play {
    /// The preface and SETTINGS come first, so that mutation needs not find them.
    const PREFACE: u8 = 0x01;
    /// The input is frames in a short form whose lengths always fit: kind, flags, stream, length, payload.
    const SHORT: u8 = 0x02;
    /// The peer closes at its end instead of falling silent.
    const CLOSES: u8 = 0x04;
    /// The server is asked to drain once everything was sent.
    const DRAINS: u8 = 0x08;
    /// Requests are refused.
    const REFUSES: u8 = 0x10;
    /// Requests are dropped without an answer.
    const DROPS: u8 = 0x20;
    /// Everything comes in single bytes.
    const SLOW: u8 = 0x40;
    /// The limits are so low that few bytes reach them.
    const TIGHT: u8 = 0x80;

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

pub(crate) fn server(data: &[u8]) {
    let Some((play, input)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(converse(Play(*play), input));
}

async fn converse(play: Play, input: &[u8]) {
    let mut config = Config::default();
    if play.has(Play::TIGHT) {
        config = Config {
            stream_window: 4096,
            max_streams: 2,
            send_buffer: 1024,
            remembered_resets: 2,
            unseen_resets: 2,
            abandoned_streams: 2,
            protocol_resets: 2,
            small_frame_budget: 4096,
            ..config
        };
    }
    let (near, far) = duplex(16 << 10);
    let (sent, all_sent) = oneshot::channel();
    let shutdown = async {
        let _ = all_sent.await;
        if !play.has(Play::DRAINS) {
            std::future::pending::<()>().await;
        }
    };
    let mut running = Box::pin(serve(near, &config, shutdown, |incoming| answer(incoming, play)));
    let mut peer = Box::pin(speak(far, play, bytes(play, input)));
    let silent = tokio::select! {
        _ = &mut running => return,
        silent = &mut peer => silent,
    };
    let _ = sent.send(());
    let mut drained = Box::pin(drain(silent, play));
    let ended = timeout(SILENCE, async {
        tokio::select! {
            _ = &mut running => {}
            () = &mut drained => unreachable!("draining goes on for ever"),
        }
    });
    assert!(ended.await.is_ok(), "the tunnel outlives its silent peer");
}

/// Sends everything while it reads what comes back.
async fn speak(mut far: DuplexStream, play: Play, bytes: Vec<u8>) -> DuplexStream {
    let mut space = [0; 4096];
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let piece = if play.has(Play::SLOW) { &rest[..1] } else { rest };
        let (mut reader, mut writer) = tokio::io::split(&mut far);
        tokio::select! {
            biased;
            written = writer.write(piece) => match written {
                Ok(size) => rest = &rest[size..],
                Err(_) => break,
            },
            read = reader.read(&mut space) => if !matches!(read, Ok(1..)) { break },
        }
    }
    far
}

async fn drain(mut far: DuplexStream, play: Play) {
    if play.has(Play::CLOSES) {
        let _ = far.shutdown().await;
    }
    let mut space = [0; 4096];
    while let Ok(1..) = far.read(&mut space).await {}
    std::future::pending().await
}

fn bytes(play: Play, input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if play.has(Play::PREFACE) {
        bytes.extend(PREFACE);
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
    }
    if !play.has(Play::SHORT) {
        bytes.extend(input);
        return bytes;
    }
    let mut rest = input;
    while let [kind, flags, stream, length, after @ ..] = rest {
        let (payload, next) = after.split_at(usize::from(*length).min(after.len()));
        bytes.extend(frame(*kind, *flags, u32::from(*stream), payload));
        rest = next;
    }
    bytes
}

/// What an application's host would do: send back what comes, or refuse.
async fn answer(incoming: Incoming, play: Play) {
    let Incoming { request, mut respond } = incoming;
    let Ok(request) = request else { return respond.reject(Refusal::BAD_REQUEST) };
    assert_ne!(request.authority.port(), 0);
    if play.has(Play::REFUSES) {
        // Whoever dials waits at least once.
        let _ = timeout(Duration::from_millis(1), respond.cancelled()).await;
        return respond.reject(Refusal::DENIED);
    }
    if play.has(Play::DROPS) {
        return;
    }
    let Ok(stream) = respond.accept(Some(&request.baggage)) else { return };
    let (mut send, mut recv) = stream.split();
    while let Some(Ok(mut data)) = recv.recv().await {
        let size = data.len();
        if recv.recv_during(send.send(&mut data)).await.is_err() {
            return;
        }
        recv.consumed(size);
    }
    let _ = send.finish();
}

/// Kind, flags, stream and payload.
type Frame<'a> = (u8, u8, u32, &'a [u8]);

pub(crate) fn server_seeds() -> Vec<Vec<u8>> {
    let request = block(&[(":method", "CONNECT"), (":authority", "10.0.0.1:80")]);
    let full = block(&[
        (":method", "CONNECT"),
        (":authority", "web.demo:80"),
        ("baggage", "service.name=a"),
        ("forwarded", "for=\"10.0.0.9:999\";host=web"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]);
    let get = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a:1")]);
    let conversations: [&[Frame<'_>]; 6] = [
        &[(HEADERS, END_HEADERS, 1, &request), (DATA, 0, 1, b"hello"), (DATA, END_STREAM, 1, b"!")],
        &[(HEADERS, END_HEADERS | END_STREAM, 1, &full), (PING, 0, 0, &[1; 8]), (WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0])],
        &[
            (HEADERS, 0, 1, &request[..9]),
            (CONTINUATION, END_HEADERS, 1, &request[9..]),
            (RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ],
        &[(HEADERS, END_HEADERS, 1, &get), (HEADERS, END_HEADERS, 3, &request), (GOAWAY, 0, 0, &[0; 8])],
        &[(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), (HEADERS, END_HEADERS, 1, &request), (DATA, 0, 1, &[7; 100])],
        &[
            (HEADERS, END_HEADERS, 1, &request),
            (RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            (HEADERS, END_HEADERS, 3, &request),
            (RST_STREAM, 0, 3, &[0, 0, 0, 8]),
            (HEADERS, END_HEADERS, 5, &request),
            (RST_STREAM, 0, 5, &[0, 0, 0, 8]),
        ],
    ];
    let mut seeds = Vec::new();
    for conversation in conversations {
        let whole: Vec<u8> =
            conversation.iter().flat_map(|(kind, flags, id, body)| frame(*kind, *flags, *id, body)).collect();
        let mut short = Vec::new();
        for (kind, flags, id, body) in conversation {
            short.extend([*kind, *flags, *id as u8, body.len() as u8]);
            short.extend(*body);
        }
        seeds.push([&[Play::CLOSES], PREFACE, &frame(SETTINGS, 0, 0, &[]), &whole].concat());
        for play in [
            0,
            Play::CLOSES | Play::DRAINS,
            Play::REFUSES | Play::TIGHT,
            Play::DROPS | Play::TIGHT,
            Play::SLOW | Play::TIGHT,
        ] {
            seeds.push([&[Play::PREFACE | Play::SHORT | play], short.as_slice()].concat());
        }
    }
    seeds
}

/// However the bytes are cut, the same is seen.
pub(crate) fn frames(data: &[u8]) {
    let Some((cut, input)) = data.split_first() else { return };
    let scanner = || if *cut & 1 == 0 { Scanner::of_client() } else { Scanner::of_server() };
    let whole = seen(scanner(), std::iter::once(input));
    let pieces = seen(scanner(), input.chunks(usize::from(*cut >> 1) + 1));
    assert_eq!(whole, pieces);
    for seen in &whole.0 {
        match seen {
            Seen::Data(size) => assert!(*size < 1 << 24),
            Seen::Window(more) => assert!(*more < 1 << 31),
            Seen::Settings | Seen::GoAway => {}
        }
    }
    assert!(whole.0.len() <= input.len() / 9, "more was seen than frames fit in");
}

fn seen<'a>(mut scanner: Scanner, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Option<u64>) {
    let mut all = Vec::new();
    pieces.for_each(|piece| scanner.scan(piece, |one| all.push(one)));
    (all, scanner.open_block())
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let frames = [
        frame(SETTINGS, 0, 0, &[0; 12]),
        frame(WINDOW_UPDATE, 0, 0, &0x8001_0203_u32.to_be_bytes()),
        frame(HEADERS, 0, 1, &[1, 2, 3]),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
        frame(DATA, 0, 1, &[8; 30]),
        frame(GOAWAY, 0, 0, &[0; 8]),
    ]
    .concat();
    vec![[&[0], PREFACE, &frames].concat(), [&[5], frames.as_slice()].concat()]
}
