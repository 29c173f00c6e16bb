//! Adapter. Sockets on glommio.

use super::env::{GlommioEnv, io_error};
use crate::env::{Env, ReadHalf, WriteHalf};
use crate::runtime::net::{self, Abort, Row};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;

/// A listening socket.
pub struct GlommioDoor {
    listener: TcpListener,
}

impl GlommioDoor {
    pub(super) fn new(fd: OwnedFd) -> GlommioDoor {
        // SAFETY: the descriptor is open and owned, and its ownership moves into the listener here.
        let listener = unsafe { TcpListener::from_raw_fd(fd.into_raw_fd()) };
        GlommioDoor { listener }
    }

    pub(super) async fn accept(&self) -> io::Result<OwnedFd> {
        let accepted = self.listener.shared_accept().await.map_err(io_error)?;
        // glommio gives its raw descriptor out only through a stream bound to this core.
        let stream = accepted.bind_to_executor();
        // SAFETY: the stream owns the descriptor and outlives this borrow, which ends with the
        // statement.
        unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }.try_clone_to_owned()
    }
}

/// Takes a connection over.
pub(super) fn halves(fd: OwnedFd, env: &GlommioEnv) -> (GlommioReader, GlommioWriter) {
    // SAFETY: the descriptor is open and owned, and its ownership moves into the stream here.
    let stream = unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) };
    let socket = Rc::new(Socket {
        stream: RefCell::new(stream),
        env: env.clone(),
    });
    let reader = GlommioReader {
        socket: Rc::clone(&socket),
        row: Row::default(),
    };
    let writer = GlommioWriter {
        socket,
        row: Row::default(),
    };
    (reader, writer)
}

struct Socket {
    /// Borrowed only within one poll, never across a wait.
    stream: RefCell<TcpStream>,
    env: GlommioEnv,
}

/// Reads straight into the caller's bytes: glommio's own 8 KiB buffer is not used. Closed when both
/// halves are dropped.
pub struct GlommioReader {
    socket: Rc<Socket>,
    row: Row,
}

/// Writes at once what the kernel takes and waits for room otherwise.
pub struct GlommioWriter {
    socket: Rc<Socket>,
    row: Row,
}

impl ReadHalf for GlommioReader {
    async fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Before the read and not after it: what was read is not held back.
        if self.row.count(0) {
            self.socket.env.next_pass().await;
        }
        let mut waited = false;
        let socket = &self.socket;
        let received = poll_fn(|context| {
            let mut stream = socket.stream.borrow_mut();
            let poll = Pin::new(&mut *stream).poll_read(context, into);
            waited |= poll.is_pending();
            poll
        })
        .await?;
        if waited {
            self.row = Row::default();
        }
        self.row.add_bytes(received);
        Ok(received)
    }
}

impl WriteHalf for GlommioWriter {
    async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let mut waited = false;
            let socket = &self.socket;
            let sent = poll_fn(|context| {
                let mut stream = socket.stream.borrow_mut();
                let poll = Pin::new(&mut *stream).poll_write(context, left);
                waited |= poll.is_pending();
                poll
            })
            .await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            left = &left[sent..];
            if waited {
                self.row = Row::default();
            } else if self.row.count(sent) {
                socket.env.next_pass().await;
            }
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        let socket = &self.socket;
        poll_fn(|context| {
            let mut stream = socket.stream.borrow_mut();
            Pin::new(&mut *stream).poll_close(context)
        })
        .await
    }
}

impl Abort for GlommioReader {
    fn abort(&self) {
        self.socket.abort();
    }
}

impl Abort for GlommioWriter {
    fn abort(&self) {
        self.socket.abort();
    }
}

impl Socket {
    fn abort(&self) {
        let stream = self.stream.borrow();
        // SAFETY: the stream owns the descriptor and is borrowed longer than this use of it.
        net::abort(unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) });
    }
}
