//! Adapter. Which of the two worlds runs.

use super::ring;
use std::fmt;
use std::io;

/// A world of the runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adapter {
    /// One io_uring per core, single issuer, deferred task work: Linux 6.1 or newer.
    Ring,
    /// glommio: Linux 5.15 or newer.
    Glommio,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Adapter::Ring => "ring",
            Adapter::Glommio => "glommio",
        })
    }
}

impl Adapter {
    /// The one that was asked for, or the best that this kernel has: `None` leaves the choice. The
    /// error says why the raw ring cannot run.
    pub fn choose(wanted: Option<Adapter>) -> (Adapter, Option<io::Error>) {
        match wanted {
            Some(Adapter::Glommio) => (Adapter::Glommio, None),
            Some(Adapter::Ring) => (Adapter::Ring, ring::probe().err()),
            None => match ring::probe() {
                Ok(()) => (Adapter::Ring, None),
                Err(error) => (Adapter::Glommio, Some(error)),
            },
        }
    }
}
