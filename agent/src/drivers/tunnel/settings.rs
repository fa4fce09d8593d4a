//! The limits and timers of a tunnel, and how they are told to h2.

use std::time::Duration;

use super::mux::machine::Limits;

/// The largest flow-control window (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The limits and timers of one end of a tunnel.
///
/// Memory that a peer can make us hold per tunnel: `max_streams` × (`stream_window` received + `send_buffer` to send),
/// reached only if every stream is stalled.
#[derive(Clone, Debug)]
pub struct Config {
    /// How much of one stream may wait here for a slow application, in bytes. The most that a stream can move per
    /// round trip: 1 MiB is 8 Gbit/s at 1 ms. h2 tells the peer about consumed bytes once a third of this is due.
    pub stream_window: u32,
    /// The largest frame that the peer may send, in bytes (16 KiB to 16 MiB). Every frame gets its own buffer.
    pub max_frame: u32,
    /// How many streams one tunnel carries at a time. As a server, told to the peer; as a client, our own limit besides
    /// the peer's.
    pub max_streams: u32,
    /// The largest header list that a client takes from a server, in bytes.
    pub client_header_list: u32,
    /// The largest header list that a server takes from a client, in bytes.
    pub server_header_list: u32,
    /// How much of one stream may wait to be sent, in bytes.
    pub send_buffer: usize,
    /// How long the peer has for its connection preface, for its SETTINGS, and for a header block once it began.
    pub handshake_timeout: Duration,
    /// After this much silence the peer is sent a PING.
    pub keepalive_interval: Duration,
    /// The tunnel is given up when nothing was received for this long after a PING.
    pub keepalive_timeout: Duration,
    /// How many streams we remember after resetting them, to ignore what the peer had sent before it learnt of it.
    pub remembered_resets: usize,
    /// For how long we remember them.
    pub remembered_for: Duration,
    /// How many streams the peer may reset before we even saw them (rapid reset, CVE-2023-44487).
    pub unseen_resets: usize,
    /// How many streams the peer may abandon before they were answered, per `keepalive_interval`.
    pub abandoned_streams: usize,
    /// How many streams the peer may make us reset by breaking the protocol, in the life of the tunnel
    /// (CVE-2025-8671). Streams refused for going over `max_streams` count too.
    pub protocol_resets: usize,
    /// How much overhead of small frames may wait unread in the whole tunnel: 256 bytes less its size for each.
    pub small_frame_budget: usize,
    /// As `max_streams`, for `sotto/1`, where streams do not share a window.
    pub mux_streams: u32,
    /// The most of one stream of `sotto/1` that may wait here for an application which has kept up so far, in bytes: what a
    /// stream can move per round trip.
    pub mux_largest_credit: u32,
    /// A client's tunnel counts as full when the peer's connection window has been exhausted for this long.
    pub starved_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stream_window: 1 << 20,
            max_frame: 64 << 10,
            max_streams: 200,
            client_header_list: 16 << 10,
            server_header_list: 64 << 10,
            send_buffer: 256 << 10,
            handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(20),
            remembered_resets: 1024,
            remembered_for: Duration::from_secs(5),
            unseen_resets: 100,
            abandoned_streams: 1000,
            protocol_resets: 4096,
            small_frame_budget: 64 << 20,
            mux_streams: 1000,
            mux_largest_credit: 4 << 20,
            starved_after: Duration::from_millis(250),
        }
    }
}

impl Config {
    /// The window for the whole tunnel, in bytes: more than all streams together can fill, so that stalled streams never
    /// hold up the others. The head-room is what h2 may keep to itself before it tells the peer: it sends an update
    /// when a third of what the stalled streams leave is due, and two thirds of 32 stream windows are plenty for one
    /// stream. Memory stays bounded by the streams' own windows.
    #[must_use]
    pub fn connection_window(&self) -> u32 {
        let streams = u64::from(self.concurrent_streams()) + 32;
        u32::try_from(streams * u64::from(self.stream_window)).unwrap_or(MAX_WINDOW).min(MAX_WINDOW)
    }

    /// `max_streams`, or fewer if their windows would not fit into the largest connection window that there is.
    #[must_use]
    pub fn concurrent_streams(&self) -> u32 {
        let fit = (MAX_WINDOW / self.stream_window.max(1)).saturating_sub(32).max(1);
        self.max_streams.min(fit)
    }

    pub(super) fn mux_limits(&self) -> Limits {
        Limits {
            max_streams: self.mux_streams,
            largest_credit: self.mux_largest_credit,
            hello: self.handshake_timeout,
            keepalive_interval: self.keepalive_interval,
            keepalive_timeout: self.keepalive_timeout,
        }
    }

    fn frame_size(&self) -> u32 {
        self.max_frame.clamp(16 << 10, (16 << 20) - 1)
    }

    pub(super) fn client(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.stream_window.min(MAX_WINDOW))
            .initial_connection_window_size(self.connection_window())
            .max_frame_size(self.frame_size())
            .max_header_list_size(self.client_header_list)
            .max_concurrent_reset_streams(self.remembered_resets)
            .reset_stream_duration(self.remembered_for)
            .max_local_error_reset_streams(Some(self.protocol_resets))
            .max_send_buffer_size(self.send_buffer)
            .data_frame_budget(self.small_frame_budget)
            .enable_push(false);
        builder
    }

    pub(super) fn server(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.stream_window.min(MAX_WINDOW))
            .initial_connection_window_size(self.connection_window())
            .max_frame_size(self.frame_size())
            .max_header_list_size(self.server_header_list)
            .max_concurrent_streams(self.concurrent_streams())
            .max_concurrent_reset_streams(self.remembered_resets)
            .reset_stream_duration(self.remembered_for)
            .max_pending_accept_reset_streams(self.unseen_resets)
            .max_local_error_reset_streams(Some(self.protocol_resets))
            .max_send_buffer_size(self.send_buffer)
            .data_frame_budget(self.small_frame_budget);
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream_window: u32, max_streams: u32) {
        let config = Config { stream_window, max_streams, ..Config::default() };
        let all_streams = u64::from(config.concurrent_streams()) * u64::from(config.stream_window);
        assert!(config.concurrent_streams() >= 1);
        assert!(u64::from(config.connection_window()) > all_streams, "{config:?}");
    }

    #[test]
    fn the_connection_window_is_more_than_all_streams_can_fill() {
        check(Config::default().stream_window, Config::default().max_streams);
        check(64 << 10, 1);
        check(16 << 20, 200);
        check(60 << 20, 10_000);
    }
}
