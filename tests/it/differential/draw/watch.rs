//! Pure. Draws watch streams: one at a time, with several watches.

use ringbolt::bench::message::Message;

use super::super::step::Kind;
use super::Drawer;

const WATCHES_PER_STREAM: u64 = 6;

/// What is known of the open watch stream.
#[derive(Default)]
pub struct Watching {
    pub open: bool,
    /// The largest start revision of a watch: no progress answer before it is reached.
    start_max: i64,
}

/// The past that a watch is drawn for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Past {
    /// Compacted: the server ends it at once.
    Compacted,
    /// Readable, if it has one.
    Readable,
    /// None: it is live from the beginning.
    None,
}

impl Drawer {
    pub(super) fn watch(&mut self) {
        if !self.watching.open {
            if self.compacted > 1 && self.rng.one_in(6) {
                return self.compacted_watches();
            }
            self.watching = Watching {
                open: true,
                start_max: 0,
            };
            let mut request = Message::new();
            for _ in 0..1 + self.rng.below(WATCHES_PER_STREAM) {
                request = request.nested(1, &self.watch_create(Past::Readable));
            }
            return self.push(Kind::WatchOpen, request);
        }
        self.sync_watch();
        match self.rng.below(6) {
            0 => self.watch_cancel(),
            1 => {
                let mut request = Message::new();
                for _ in 0..1 + self.rng.below(3) {
                    request = request.nested(1, &self.watch_create(Past::Readable));
                }
                self.push(Kind::WatchMore, request);
                self.sync_watch();
            }
            2 => self.watch_close(),
            3 => self.push(Kind::WatchProgress, Message::new()),
            4 => {
                // One that starts in the future keeps the stream without an answer.
                let request = Message::new().nested(1, &self.watch_create(Past::None));
                self.push(Kind::WatchMore, request);
                for _ in 0..1 + self.rng.below(2) {
                    self.push(Kind::WatchProgress, Message::new());
                }
                self.sync_watch();
            }
            _ => {}
        }
    }

    pub(super) fn watch_close(&mut self) {
        self.watching.open = false;
        self.push(Kind::WatchClose, Message::new());
    }

    /// Watches that have met compaction are on a stream of their own: etcd answers no progress
    /// request on it until the client cancels them too.
    fn compacted_watches(&mut self) {
        let mut request = Message::new();
        for _ in 0..1 + self.rng.below(WATCHES_PER_STREAM) {
            request = request.nested(1, &self.watch_create(Past::Compacted));
        }
        self.push(Kind::WatchOpen, request);
        self.push(Kind::WatchSync, Message::new().flag(2, true));
        for _ in 0..self.rng.below(5) {
            match self.rng.below(3) {
                0 => self.watch_cancel(),
                1 => {
                    let request = Message::new().nested(1, &self.watch_create(Past::None));
                    self.push(Kind::WatchMore, request);
                }
                _ => self.push(Kind::WatchProgress, Message::new()),
            }
        }
        self.push(Kind::WatchProgress, Message::new());
        self.push(Kind::WatchClose, Message::new());
    }

    fn watch_cancel(&mut self) {
        let cancel =
            Message::new().int(1, self.rng.below(8) as i64 - i64::from(self.rng.one_in(8)));
        let request = Message::new().nested(1, &Message::new().nested(2, &cancel));
        self.push(Kind::WatchMore, request);
    }

    fn watch_create(&mut self, past: Past) -> Message {
        let (key, end) = match self.rng.one_in(10) {
            // No key is the least key.
            true => (Vec::new(), self.interval().1),
            false => self.interval(),
        };
        let oldest = self.compacted.max(1);
        let ahead = self.revision + self.queued_revisions();
        let start = match (past, self.rng.below(8)) {
            (Past::Compacted, _) => 1 + self.rng.below(self.compacted as u64 - 1) as i64,
            (_, 0) => -1 - (self.rng.next() >> 1) as i64 * i64::from(self.rng.one_in(4)),
            (_, 1) => ahead + 1 + self.rng.below(6) as i64,
            (Past::None, _) => 0,
            (_, 2) => oldest,
            (_, 3..6) => (self.revision - self.rng.below(40) as i64).max(oldest),
            _ => 0,
        };
        self.watching.start_max = self.watching.start_max.max(start);
        let mut create = Message::new().bytes(1, &key).bytes(2, &end).int(3, start);
        create = create
            .flag(4, self.rng.one_in(4))
            .flag(6, self.rng.one_in(2));
        if self.rng.one_in(5) {
            create = create.int_present(5, self.rng.below(2) as i64);
        }
        if self.rng.one_in(20) {
            // Both filters, and one that no etcd knows.
            create = create.int_present(5, self.rng.below(3) as i64);
        }
        if self.rng.one_in(6) {
            create = create.int(7, self.rng.below(8) as i64);
        }
        Message::new().nested(1, &create.flag(8, self.rng.one_in(4)))
    }

    /// Waits until the open watches have seen everything. At least one put makes the revision new,
    /// so that a late answer to an earlier request cannot pass for this one; more puts reach the
    /// start of watches of the future.
    pub(super) fn sync_watch(&mut self) {
        if !self.watching.open {
            return;
        }
        let mut revision = self.revision + self.queued_revisions();
        loop {
            self.push(Kind::Put, Message::new().bytes(1, b"a").bytes(2, b"on"));
            revision += 1;
            if revision >= self.watching.start_max {
                break;
            }
        }
        self.push(Kind::WatchSync, Message::new().int(1, revision));
    }

    /// Revisions that the queued steps will take.
    fn queued_revisions(&self) -> i64 {
        let of = |kind| match kind {
            Kind::Put | Kind::WatchProgress => 1,
            _ => 0,
        };
        self.queue.iter().map(|step| of(step.kind)).sum()
    }
}
