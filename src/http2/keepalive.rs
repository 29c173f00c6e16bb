//! Pure. Pings: ours that find dead peers, and the peer's that come too often.

use crate::env::Monotonic;
use crate::limits::http2::PING_STRIKES_MAX;
use std::time::Duration;

/// Pings closer than this without a stream are strikes, whatever the settings (as grpc-go).
const PING_TIME_WITHOUT_STREAM: Duration = Duration::from_secs(2 * 60 * 60);

/// etcd's `--grpc-keepalive-*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Silence before we ping. Zero: never.
    pub interval: Duration,
    /// Silence after our ping before we close.
    pub timeout: Duration,
    /// The peer's pings may not be closer than this.
    pub ping_time_min: Duration,
    /// The peer may ping without a stream.
    pub permit_without_stream: bool,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive {
            interval: Duration::from_secs(2 * 60 * 60),
            timeout: Duration::from_secs(20),
            ping_time_min: Duration::from_secs(5),
            permit_without_stream: false,
        }
    }
}

/// What a tick asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    Nothing,
    Ping,
    Close,
}

/// One per connection.
#[derive(Debug)]
pub struct Keeper {
    settings: Keepalive,
    last_received: Monotonic,
    /// When our unanswered ping went out; anything received answers it.
    pinged: Option<Monotonic>,
    last_peer_ping: Option<Monotonic>,
    strikes: u32,
    /// We sent HEADERS or DATA since the last peer ping: it may measure bandwidth with the next.
    sent: bool,
}

impl Keeper {
    pub fn new(settings: Keepalive, now: Monotonic) -> Keeper {
        Keeper {
            settings,
            last_received: now,
            pinged: None,
            last_peer_ping: None,
            strikes: 0,
            sent: false,
        }
    }

    #[inline]
    pub fn received(&mut self, now: Monotonic) {
        self.last_received = now;
        self.pinged = None;
    }

    pub fn last_received(&self) -> Monotonic {
        self.last_received
    }

    /// We sent HEADERS or DATA.
    #[inline]
    pub fn sent(&mut self) {
        self.sent = true;
    }

    pub fn deadline(&self) -> Option<Monotonic> {
        if let Some(pinged) = self.pinged {
            return Some(pinged + self.settings.timeout);
        }
        let on = !self.settings.interval.is_zero();
        on.then(|| self.last_received + self.settings.interval)
    }

    pub fn tick(&mut self, now: Monotonic) -> Tick {
        match self.deadline() {
            Some(deadline) if now >= deadline => {}
            _ => return Tick::Nothing,
        }
        if self.pinged.is_some() {
            return Tick::Close;
        }
        self.pinged = Some(now);
        Tick::Ping
    }

    /// The peer pinged. `false`: once too often.
    pub fn peer_pinged(&mut self, now: Monotonic, streams: usize) -> bool {
        let last = self.last_peer_ping.replace(now);
        if std::mem::take(&mut self.sent) {
            self.strikes = 0;
            return true;
        }
        let apart = if streams == 0 && !self.settings.permit_without_stream {
            PING_TIME_WITHOUT_STREAM
        } else {
            self.settings.ping_time_min
        };
        if last.is_some_and(|last| now < last + apart) {
            self.strikes += 1;
        }
        self.strikes <= PING_STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    // Catches: strikes that differ from grpc-go's: two are forgiven, sending resets them, a ping
    // without streams needs two hours.
    #[test]
    fn strikes_count_as_in_grpc_go() {
        let mut keeper = Keeper::new(Keepalive::default(), at(0));
        for (second, streams, sent, fine) in [
            (0, 1, false, true),
            (1, 1, false, true),
            (2, 1, false, true),
            (8, 1, false, true),
            (9, 1, true, true),
            (10, 1, false, true),
            (11, 0, false, true),
            (60, 0, false, false),
        ] {
            if sent {
                keeper.sent();
            }
            assert_eq!(
                keeper.peer_pinged(at(second), streams),
                fine,
                "second {second}"
            );
        }
    }

    // Catches: a silent peer kept for ever, or a talking one pinged or closed.
    #[test]
    fn silence_is_pinged_then_closed() {
        let settings = Keepalive {
            interval: Duration::from_secs(10),
            ..Keepalive::default()
        };
        let mut keeper = Keeper::new(settings, at(0));
        assert_eq!(keeper.tick(at(9)), Tick::Nothing);
        keeper.received(at(9));
        assert_eq!(keeper.tick(at(18)), Tick::Nothing);
        assert_eq!(keeper.deadline(), Some(at(19)));
        assert_eq!(keeper.tick(at(19)), Tick::Ping);
        assert_eq!(keeper.tick(at(20)), Tick::Nothing);
        assert_eq!(keeper.deadline(), Some(at(39)));
        keeper.received(at(21));
        assert_eq!(keeper.tick(at(31)), Tick::Ping);
        assert_eq!(keeper.tick(at(51)), Tick::Close);
    }
}
