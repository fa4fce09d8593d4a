//! Tells a peer that is alive from one that is dead or dawdling. The decisions are pure; a small loop feeds them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, sleep};

use super::meter::{Meter, Observed};
use crate::drivers::tunnel::error::TunnelError;
use crate::drivers::tunnel::settings::Config;

/// What to do about the peer.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Fine,
    /// Ask whether it is still there.
    Ping,
    /// Give the tunnel up.
    Dead(TunnelError),
}

/// Any byte from the peer is a sign of life; after a silence it is asked with a PING.
///
/// ```text
///  Quiet --keepalive_interval--> Asked --keepalive_timeout--> Dead
///    ^------------ any byte -------'
/// ```
#[derive(Debug)]
struct Watchdog {
    handshake_timeout: Duration,
    interval: Duration,
    timeout: Duration,
    started: Instant,
    received: u64,
    quiet_since: Instant,
    asked_at: Option<Instant>,
    /// The header block that is under way, and since when.
    block: Option<(u64, Instant)>,
}

impl Watchdog {
    fn new(config: &Config, now: Instant) -> Self {
        Self {
            handshake_timeout: config.handshake_timeout,
            interval: config.keepalive_interval,
            timeout: config.keepalive_timeout,
            started: now,
            received: 0,
            quiet_since: now,
            asked_at: None,
            block: None,
        }
    }

    /// How often to look: timeouts are noticed late by this at most.
    fn tick(&self) -> Duration {
        let shortest = self.handshake_timeout.min(self.interval).min(self.timeout);
        (shortest / 4).max(Duration::from_millis(1))
    }

    fn check(&mut self, now: Instant, seen: &Observed) -> Verdict {
        if !seen.settings && now - self.started >= self.handshake_timeout {
            return Verdict::Dead(TunnelError::Handshake(self.handshake_timeout));
        }
        self.block = seen.open_block.map(|block| match self.block {
            Some((same, since)) if same == block => (block, since),
            _ => (block, now),
        });
        if self.block.is_some_and(|(_, since)| now - since >= self.handshake_timeout) {
            return Verdict::Dead(TunnelError::SlowHeaders(self.handshake_timeout));
        }
        if seen.received != self.received {
            self.received = seen.received;
            self.quiet_since = now;
            self.asked_at = None;
        }
        match self.asked_at {
            Some(asked) if now - asked >= self.timeout => Verdict::Dead(TunnelError::Silent(self.timeout)),
            Some(_) => Verdict::Fine,
            None if now - self.quiet_since >= self.interval => {
                self.asked_at = Some(now);
                Verdict::Ping
            }
            None => Verdict::Fine,
        }
    }
}

/// A watchdog that runs beside its tunnel.
pub(super) type Watch = Pin<Box<dyn Future<Output = TunnelError> + Send>>;

/// Watches over the peer until it must be given up; says why. Never ends for a peer that is well.
pub(super) fn watch(pings: Option<PingPong>, meter: Arc<Meter>, config: &Config) -> Watch {
    let mut watchdog = Watchdog::new(config, Instant::now());
    Box::pin(async move {
        let mut pinger = Pinger::new(pings);
        loop {
            pinger.run_for(watchdog.tick()).await;
            match watchdog.check(Instant::now(), &meter.observed()) {
                Verdict::Fine => {}
                Verdict::Ping => pinger.ask(),
                Verdict::Dead(why) => return why,
            }
        }
    })
}

/// At most one PING under way; h2 allows no more.
enum Pinger {
    Idle(PingPong),
    Asking(Pin<Box<dyn Future<Output = PingPong> + Send>>),
    Unable,
}

impl Pinger {
    fn new(pings: Option<PingPong>) -> Self {
        pings.map_or(Self::Unable, Self::Idle)
    }

    fn ask(&mut self) {
        *self = match std::mem::replace(self, Self::Unable) {
            Self::Idle(mut pings) => Self::Asking(Box::pin(async move {
                // The answer shows in the meter; an error means that the tunnel has ended.
                let _ = pings.ping(Ping::opaque()).await;
                pings
            })),
            busy @ (Self::Asking(_) | Self::Unable) => busy,
        };
    }

    async fn run_for(&mut self, duration: Duration) {
        let timer = sleep(duration);
        tokio::pin!(timer);
        if let Self::Asking(ping) = self {
            tokio::select! {
                pings = ping => *self = Self::Idle(pings),
                () = &mut timer => return,
            }
        }
        timer.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watchdog, what it sees, and the time; seconds after the start.
    struct Scene {
        watchdog: Watchdog,
        seen: Observed,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let start = Instant::now();
            let mut seen = Meter::new().observed();
            seen.settings = true;
            Self { watchdog: Watchdog::new(&Config::default(), start), seen, start }
        }

        fn check(&mut self, second: u64, expected: Verdict) {
            let verdict = self.watchdog.check(self.start + Duration::from_secs(second), &self.seen);
            assert_eq!(verdict, expected, "at second {second}");
        }
    }

    #[test]
    fn a_silent_peer_is_asked_once_and_given_up() {
        let mut scene = Scene::new();
        scene.check(9, Verdict::Fine);
        scene.check(10, Verdict::Ping);
        scene.check(29, Verdict::Fine);
        scene.check(30, Verdict::Dead(TunnelError::Silent(Duration::from_secs(20))));
    }

    #[test]
    fn every_byte_is_a_sign_of_life() {
        let mut scene = Scene::new();
        for second in (9..100).step_by(9) {
            scene.seen.received += 1;
            scene.check(second, Verdict::Fine);
        }
        scene.check(109, Verdict::Ping);
        scene.seen.received += 1;
        scene.check(128, Verdict::Fine);
        scene.check(138, Verdict::Ping);
    }

    #[test]
    fn a_peer_that_never_sends_settings_is_given_up() {
        let mut scene = Scene::new();
        scene.seen.settings = false;
        scene.seen.received = 1;
        scene.check(9, Verdict::Fine);
        scene.check(10, Verdict::Dead(TunnelError::Handshake(Duration::from_secs(10))));
    }

    #[test]
    fn a_header_block_must_end_in_time() {
        let mut scene = Scene::new();
        for second in 1..30 {
            scene.seen.received += 1;
            scene.seen.open_block = Some(second / 5);
            scene.check(second, Verdict::Fine);
        }
        for second in 30..35 {
            scene.seen.received += 1;
            scene.check(second, Verdict::Fine);
        }
        scene.seen.received += 1;
        scene.check(35, Verdict::Dead(TunnelError::SlowHeaders(Duration::from_secs(10))));
    }
}
