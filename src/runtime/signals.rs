//! Adapter. SIGTERM and SIGINT as an event, and an end that the parent sees as that signal.

use super::event::Event;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The wish that the process end. Shared by all cores and by whoever else may ask.
#[derive(Clone, Default)]
pub struct Shutdown {
    event: Event,
    signal: Arc<AtomicI32>,
}

impl Shutdown {
    /// A wish that only [`Shutdown::request`] expresses: for tests and tools.
    pub fn manual() -> Shutdown {
        Shutdown::default()
    }

    /// Turns the first SIGTERM or SIGINT into the wish. A second one ends the process at once, as
    /// it would have without us: an operator who insists is not kept waiting.
    pub fn install() -> io::Result<Shutdown> {
        let shutdown = Shutdown::default();
        let theirs = shutdown.clone();
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if theirs.is_requested() {
                        end_by_signal(signal);
                    }
                    theirs.signal.store(signal, Ordering::Release);
                    theirs.event.raise();
                }
            })?;
        Ok(shutdown)
    }

    pub fn is_requested(&self) -> bool {
        self.event.is_raised()
    }

    /// The signal that asked, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Acquire) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Asks without a signal.
    pub fn request(&self) {
        self.event.raise();
    }

    /// Returns once somebody asked. On any core, or on several.
    pub async fn requested(&self) {
        self.event.wait().await;
    }
}

/// Ends the process by `signal`'s default action, so that its parent sees that cause.
pub fn end_by_signal(signal: i32) -> ! {
    // Returns only for a signal whose default is to be ignored, which we never install.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    std::process::exit(128 + signal)
}
