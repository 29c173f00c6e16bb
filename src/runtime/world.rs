//! Adapter. What an adapter of the runtime gives: [`Env`] and sockets. `server/` is generic over
//! it.

use super::net::{Abort, Address};
use super::start::{CoreFailure, Seat};
use crate::env::{Env, ReadHalf, WriteHalf};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A core's whole world. Two exist, [`RingEnv`](super::RingEnv) and
/// [`GlommioEnv`](super::GlommioEnv); which one runs is chosen at start.
pub trait World: Env {
    /// A listening socket that this core accepts on.
    type Door: 'static;
    type Reader: ReadHalf + Abort;
    type Writer: WriteHalf + Abort;

    /// Runs a future on a new executor of the calling thread, to its end.
    fn run<T: 'static, F: Future<Output = T> + 'static>(
        seat: Seat,
        main: impl FnOnce(Self) -> F,
    ) -> Result<T, CoreFailure>;

    fn door(&self, fd: OwnedFd, address: &Address) -> Self::Door;

    /// The next connection of a listening socket, in blocking mode.
    fn accept(&self, door: &Self::Door) -> impl Future<Output = io::Result<OwnedFd>>;

    /// Takes a connection over. Closed when both halves are dropped.
    fn halves(&self, fd: OwnedFd) -> (Self::Reader, Self::Writer);

    /// Connects to an internet address.
    fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<OwnedFd>>;

    /// Runs what would block on one of the core's helper threads.
    fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> impl Future<Output = io::Result<R>>;
}
