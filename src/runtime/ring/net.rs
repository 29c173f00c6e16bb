//! Adapter. Sockets on the ring: the kernel accepts ahead and receives into the core's buffers;
//! what is sent goes straight to the socket, and waits on the ring only when that is full.

use super::env::RingEnv;
use super::ops::{Accepting, Ops};
use crate::env::{Env, ReadHalf, WriteHalf};
use crate::runtime::net::{self, Abort, Row};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// A listening socket.
pub struct RingDoor {
    accepting: Accepting,
}

impl RingDoor {
    pub(super) fn new(ops: &Ops, fd: OwnedFd) -> RingDoor {
        RingDoor {
            accepting: ops.accept(Rc::new(fd)),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<OwnedFd> {
        self.accepting.next().await
    }
}

struct Socket {
    fd: Rc<OwnedFd>,
    env: RingEnv,
}

/// The receiving half of a connection.
pub struct RingReader {
    socket: Rc<Socket>,
    /// The last receive left nothing behind.
    quiet: bool,
}

/// The sending half of a connection.
pub struct RingWriter {
    socket: Rc<Socket>,
    row: Row,
}

/// Takes a connection over.
pub(super) fn halves(fd: OwnedFd, env: &RingEnv) -> (RingReader, RingWriter) {
    let socket = Rc::new(Socket {
        fd: Rc::new(fd),
        env: env.clone(),
    });
    let reader = RingReader {
        socket: Rc::clone(&socket),
        quiet: false,
    };
    let writer = RingWriter {
        socket,
        row: Row::default(),
    };
    (reader, writer)
}

impl ReadHalf for RingReader {
    async fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let env = &self.socket.env;
        loop {
            match env.ops().receive(&self.socket.fd, into, self.quiet).await {
                Ok((count, more)) => {
                    self.quiet = !more;
                    return Ok(count);
                }
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                    // Every buffer holds bytes of a connection whose task is ready: it runs first.
                    env.next_pass().await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl WriteHalf for RingWriter {
    async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let socket = &self.socket;
        let mut left = bytes;
        while !left.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&*socket.fd, left, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    left = &left[sent..];
                    if self.row.count(sent) {
                        socket.env.next_pass().await;
                    }
                }
                Err(Errno::AGAIN) => {
                    socket.env.ops().writable(&socket.fd).await?;
                    self.row = Row::default();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(
            &*self.socket.fd,
            rustix::net::Shutdown::Write,
        )?)
    }
}

impl Abort for RingReader {
    fn abort(&self) {
        net::abort(&*self.socket.fd);
    }
}

impl Abort for RingWriter {
    fn abort(&self) {
        net::abort(&*self.socket.fd);
    }
}

/// Connects without holding a helper thread for as long as a silent peer lets us wait.
pub(super) async fn connect(
    env: &RingEnv,
    address: SocketAddr,
    timeout: Duration,
) -> io::Result<OwnedFd> {
    let fd = Rc::new(net::connecting_socket(address)?);
    let connected = async {
        env.ops().writable(&fd).await?;
        rustix::net::sockopt::socket_error(&*fd)??;
        Ok(())
    };
    let late = async {
        env.sleep(timeout).await;
        Err(io::Error::from(Errno::TIMEDOUT))
    };
    futures_lite::future::or(connected, late).await?;
    let fd = fd.try_clone()?;
    // A receive on a socket that never waits would not wait on the ring either.
    rustix::io::ioctl_fionbio(&fd, false)?;
    Ok(fd)
}
