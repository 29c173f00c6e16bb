//! Driver. The load generator and comparison harness behind `ringbolt-bench`, and the small gRPC
//! client that the integration tests share with it.
//!
//! In: an endpoint, a workload. Out: throughput, latency, the server's cost per operation, and the
//! proof that every answer was right.
//!
//! Nothing here uses the server's own HTTP/2, HPACK or message code: a mistake in those must not be
//! shared by the client that checks them. Nor is it a client for programs; that is `client/`.
//!
//! Order of a load: `load::run` connects (`wire`, `hpack`), fills every slot with a call
//! (`workload`), turns its epoll loop until the main thread says stop, drains, and returns counts
//! that `report` prints. `compare` does this for several servers (`server`, `floor`) in turn.
//!
//! Invariants:
//! 1. An operation counts only with status OK and a checked answer; any other ends the run.
//! 2. A put load passes only if its acknowledged revisions are exactly those between the revision
//!    before and after it, so it must be alone on the server.
//! 3. In the open loop latency counts from the due time.
//!
//! It measures time with the real clock and is never run by the simulator.

pub mod cli;
pub mod compare;
pub mod floor;
pub mod hpack;
mod huffman;
pub mod list;
pub mod load;
pub mod message;
pub mod process;
pub mod report;
pub mod server;
pub mod session;
pub mod wire;
pub mod workload;

use std::collections::BTreeMap;

/// Why a run gave no result.
#[derive(Debug)]
pub enum BenchError {
    Io(std::io::Error),
    Load(load::LoadError),
    List(list::ListError),
    Session(session::SessionError),
    Start(server::StartError),
    Status(wire::Status),
    /// Wrong answers or refusals, by their text.
    Failures(BTreeMap<String, u64>),
    /// The acknowledged revisions are not those between the two.
    Revisions {
        before: i64,
        last: i64,
        acknowledged: u64,
    },
    LostRevision {
        before: i64,
        after: i64,
    },
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BenchError::Io(error) => error.fmt(f),
            BenchError::Load(error) => error.fmt(f),
            BenchError::List(error) => error.fmt(f),
            BenchError::Session(error) => error.fmt(f),
            BenchError::Start(error) => error.fmt(f),
            BenchError::Status(status) => write!(f, "code {}: {}", status.code, status.message),
            BenchError::Failures(failures) => {
                for (text, count) in failures {
                    writeln!(f, "{count} × {text}")?;
                }
                Ok(())
            }
            BenchError::Revisions {
                before,
                last,
                acknowledged,
            } => write!(
                f,
                "{acknowledged} puts were acknowledged, but the store went from revision {before} \
                 to {last}, or a revision came twice"
            ),
            BenchError::LostRevision { before, after } => {
                write!(f, "revision {before} before the kill, {after} after it")
            }
        }
    }
}

impl std::error::Error for BenchError {}

macro_rules! from {
    ($($variant:ident($inner:ty)),*) => {
        $(impl From<$inner> for BenchError {
            fn from(error: $inner) -> BenchError {
                BenchError::$variant(error)
            }
        })*
    };
}

from!(
    Io(std::io::Error),
    Load(load::LoadError),
    List(list::ListError),
    Session(session::SessionError),
    Start(server::StartError)
);
