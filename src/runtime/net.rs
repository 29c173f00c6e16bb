//! Adapter. Sockets: listeners bound on main, accepted on a core, moved to another core if policy
//! says so, and split into a reading and a writing half.
//!
//! ```text
//!   main: bind_host ──► Bound (Send)
//!   core: Bound::listen ──► Listener::accept ──► Accepted (Send)
//!   any core: Accepted::into_halves ──► reader, writer
//! ```

use super::{World, limits};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, ipproto};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who is at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    Inet(SocketAddr),
    /// A process of this machine, over a Unix socket.
    Local,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Inet(address) => address.fmt(f),
            Peer::Local => f.write_str("@"),
        }
    }
}

/// A listening socket on its way to a core.
#[derive(Debug)]
pub struct Bound {
    fd: OwnedFd,
    address: Address,
}

/// What a listener listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The addresses of a host name: `localhost` is both loopbacks, an empty name every interface.
/// Blocks on name service: on main only.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() {
        return Ok(vec![SocketAddr::new(
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            port,
        )]);
    }
    if bare.eq_ignore_ascii_case("localhost") {
        return Ok(vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
        ]);
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut addresses: Vec<_> = (bare, port).to_socket_addrs()?.collect();
    addresses.dedup();
    Ok(addresses)
}

/// Binds `host:port` for so many cores; the answer has, for each core, one listener per address.
/// Port 0 draws one port for all. An IPv6 address that this machine does not have is left out as
/// long as another address remains.
pub fn bind_host(host: &str, port: u16, cores: usize) -> io::Result<Vec<Vec<Bound>>> {
    let mut listeners: Vec<Vec<Bound>> = (0..cores).map(|_| Vec::new()).collect();
    let mut port = port;
    let mut refused = None;
    for mut address in resolve(host, port)? {
        address.set_port(port);
        let bound = match bind(address, cores) {
            Ok(bound) => bound,
            Err(error) if address.is_ipv6() && lacks_ipv6(&error) => {
                refused = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        for (core, bound) in bound.into_iter().enumerate() {
            if let Address::Inet(local) = bound.address {
                port = local.port();
            }
            listeners[core].push(bound);
        }
    }
    match refused {
        Some(error) if listeners.iter().all(Vec::is_empty) => Err(error),
        _ => Ok(listeners),
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    let number = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    matches!(
        number,
        Some(rustix::io::Errno::ADDRNOTAVAIL | rustix::io::Errno::AFNOSUPPORT)
    )
}

/// Binds and listens on `address` once per core (SO_REUSEPORT): the kernel spreads connections. A
/// core that gets a listener must accept on it.
pub fn bind(address: SocketAddr, cores: usize) -> io::Result<Vec<Bound>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    // With SO_REUSEPORT a second server of the same user would bind the same port without an error
    // and take half of the connections. Without it the kernel tells, so ask once that way.
    let mut address = address;
    let exclusive = exclusive_socket(address).map_err(|error| {
        if lacks_ipv6(&error) {
            error
        } else {
            named(error)
        }
    })?;
    let local = local_address(&exclusive)?;
    // A drawn port must stay ours until the shared listeners hold it.
    drop(exclusive);
    address.set_port(local.port());
    (0..cores)
        .map(|_| {
            let fd = listening_socket(address, true).map_err(named)?;
            Ok(Bound {
                fd,
                address: Address::Inet(address),
            })
        })
        .collect()
}

/// The kernel tears the rings of a killed process down after its end, and with them its sockets: a
/// restart at once may find them still there, so a port in use gets a moment to become free.
fn exclusive_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    for _ in 0..limits::PORT_TRIES {
        match listening_socket(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::sleep(limits::PORT_PAUSE);
            }
            result => return result,
        }
    }
    listening_socket(address, false)
}

fn listening_socket(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let fd = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    )?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if let IpAddr::V6(ip) = address.ip() {
        // `[::]` takes IPv4 too, as everywhere else.
        sockopt::set_ipv6_v6only(&fd, !ip.is_unspecified())?;
    }
    if shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    if shared {
        rustix::net::listen(&fd, limits::LISTEN_BACKLOG)?;
    }
    Ok(fd)
}

fn local_address(fd: &OwnedFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(fd)?;
    Ok(SocketAddr::try_from(address)?)
}

/// Binds a Unix socket for one core. A socket file that nobody listens on is replaced. Not for
/// several cores: they would share one file description, whose non-blocking flag glommio turns on
/// and off around each accept, so that one core could block inside the other's call.
pub fn bind_unix(path: &Path) -> io::Result<Bound> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    Ok(Bound {
        fd: OwnedFd::from(listener),
        address: Address::Unix(path.to_owned()),
    })
}

impl Bound {
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The port, of an internet listener.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            Address::Inet(address) => Some(address.port()),
            Address::Unix(_) => None,
        }
    }

    /// Takes the socket to the core that accepts on it.
    pub fn listen<W: World>(self, world: &W) -> Listener<W> {
        Listener {
            door: world.door(self.fd, &self.address),
            address: self.address,
            world: world.clone(),
            pauses: Cell::new(0),
            row: RefCell::default(),
        }
    }
}

/// A listening socket. One per core and address.
pub struct Listener<W: World> {
    door: W::Door,
    address: Address,
    world: W,
    pauses: Cell<u64>,
    row: RefCell<Row>,
}

impl<W: World> Listener<W> {
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How often accepting had to pause because the process was out of descriptors or memory.
    pub fn pauses(&self) -> u64 {
        self.pauses.get()
    }

    /// The next connection. A connection that died in the backlog is passed over; out of
    /// descriptors or memory, it pauses and tries again. `Err` means that the listener itself is
    /// broken.
    pub async fn accept(&self) -> io::Result<Accepted> {
        // A full backlog would otherwise be emptied in one go, with the core's completions waiting.
        let over = self.row.borrow_mut().count(0);
        if over {
            self.world.next_pass().await;
        }
        loop {
            let error = match self.accept_once().await {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            use rustix::io::Errno;
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.pauses.set(self.pauses.get() + 1);
                    self.world.sleep(limits::ACCEPT_PAUSE).await;
                }
                // The peer's or the network's fault, met before the connection reached us. A pass
                // in between, so that even an endless row of them starves nobody.
                Some(
                    Errno::CONNABORTED
                    | Errno::CONNRESET
                    | Errno::INTR
                    | Errno::AGAIN
                    | Errno::PROTO
                    | Errno::PERM
                    | Errno::NOTCONN
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::TIMEDOUT,
                ) => self.world.next_pass().await,
                _ => return Err(error),
            }
        }
    }

    async fn accept_once(&self) -> io::Result<Accepted> {
        let fd = self.world.accept(&self.door).await?;
        Accepted::new(fd, matches!(self.address, Address::Inet(_)))
    }
}

/// A connection that no core owns yet.
#[derive(Debug)]
pub struct Accepted {
    fd: OwnedFd,
    peer: Peer,
}

impl Accepted {
    fn new(fd: OwnedFd, inet: bool) -> io::Result<Accepted> {
        if !inet {
            return Ok(Accepted {
                fd,
                peer: Peer::Local,
            });
        }
        sockopt::set_tcp_nodelay(&fd, true)?;
        sockopt::set_socket_keepalive(&fd, true)?;
        sockopt::set_tcp_keepidle(&fd, limits::KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&fd, limits::KEEPALIVE_PAUSE)?;
        sockopt::set_tcp_keepcnt(&fd, limits::KEEPALIVE_PROBES)?;
        // A peer without a name has gone already.
        let name = rustix::net::getpeername(&fd)?.ok_or(rustix::io::Errno::NOTCONN)?;
        let peer = SocketAddr::try_from(name)?;
        Ok(Accepted {
            fd,
            peer: Peer::Inet(peer),
        })
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Binds the connection to a core.
    pub fn into_halves<W: World>(self, world: &W) -> (W::Reader, W::Writer) {
        world.halves(self.fd)
    }
}

/// Ends both directions of a connection at once; the other half sees the end even while it waits.
pub trait Abort {
    fn abort(&self);
}

pub(super) fn abort(fd: impl AsFd) {
    // NOTCONN: the peer has ended it already, which is what we want.
    let _ = rustix::net::shutdown(fd, Shutdown::Both);
}

/// Connects to an internet address.
pub async fn connect<W: World>(
    world: &W,
    address: SocketAddr,
    timeout: Duration,
) -> io::Result<(W::Reader, W::Writer)> {
    let fd = world.connect(address, timeout).await?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    Ok(world.halves(fd))
}

/// Connects to a Unix socket of this machine.
pub async fn connect_unix<W: World>(world: &W, path: &Path) -> io::Result<(W::Reader, W::Writer)> {
    let path = path.to_owned();
    let stream = world.blocking(move || UnixStream::connect(path)).await?;
    Ok(world.halves(OwnedFd::from(stream)))
}

/// A socket whose connection is under way, in non-blocking mode.
pub(super) fn connecting_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match rustix::net::connect(&fd, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// Connects on the calling thread.
pub(super) fn connect_blocking(address: SocketAddr, timeout: Duration) -> io::Result<OwnedFd> {
    TcpStream::connect_timeout(&address, timeout).map(OwnedFd::from)
}

/// Operations in a row that did not have to wait.
#[derive(Default)]
pub(super) struct Row {
    /// At most `READY_PER_PASS`.
    count: u32,
    /// May pass `READY_BYTES_PER_PASS` by one operation.
    bytes: usize,
}

impl Row {
    /// Counts one more; `true`, and a new row, when it is time for a pass of the reactor.
    pub(super) fn count(&mut self, bytes: usize) -> bool {
        self.count += 1;
        self.bytes += bytes;
        let over =
            self.count >= limits::READY_PER_PASS || self.bytes >= limits::READY_BYTES_PER_PASS;
        if over {
            *self = Row::default();
        }
        over
    }

    /// Bytes that came after the operation was counted.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}
