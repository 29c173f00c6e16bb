//! Adapter. Tests of listeners, connections and their hand-over between cores.

use super::{disk_dir, on_core};
use crate::env::{Env, ReadHalf, WriteHalf};
use crate::runtime::net::{self, Address, Bound};
use crate::runtime::{Abort, Accepted, Options, RingEnv, World, limits, start};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

fn inet(bound: &Bound) -> SocketAddr {
    match bound.address() {
        Address::Inet(address) => *address,
        Address::Unix(path) => panic!("{}", path.display()),
    }
}

async fn connect<W: World>(env: &W, address: SocketAddr) -> (W::Reader, W::Writer) {
    net::connect(env, address, Duration::from_secs(10))
        .await
        .unwrap()
}

async fn receive_all(reader: &mut impl ReadHalf, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        let got = reader.receive(&mut bytes[filled..]).await.unwrap();
        assert!(got > 0, "the peer ended after {filled} of {size} bytes");
        filled += got;
    }
    bytes
}

// Would catch: bytes lost or reordered when both directions are full, an end that is not seen, a
// read cut to glommio's 8 KiB buffer.
fn echo_and_end<W: World>() {
    const SIZE: usize = 3 << 20;
    let bound = net::bind_host("127.0.0.1", 0, 1)
        .unwrap()
        .remove(0)
        .remove(0);
    let address = inet(&bound);
    on_core(move |env: W| async move {
        let listener = bound.listen(&env);
        let server = env.clone();
        env.spawn(async move {
            let accepted = listener.accept().await.unwrap();
            let (mut reader, mut writer) = accepted.into_halves(&server);
            let mut buffer = vec![0; 256 << 10];
            let mut largest = 0;
            loop {
                let got = reader.receive(&mut buffer).await.unwrap();
                largest = largest.max(got);
                if got == 0 {
                    break;
                }
                writer.send_all(&buffer[..got]).await.unwrap();
            }
            assert!(largest > 8192, "{largest}");
            writer.shutdown().await.unwrap();
        });
        let (mut reader, mut writer) = connect(&env, address).await;
        let sent: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        env.spawn(async move {
            writer.send_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        assert!(receive_all(&mut reader, SIZE).await == expected);
        assert_eq!(reader.receive(&mut [0; 16]).await.unwrap(), 0);
    });
}

// Would catch: a reader left waiting for ever when its connection is ended from this side.
fn abort_wakes_the_reader<W: World>() {
    let bound = net::bind_host("127.0.0.1", 0, 1)
        .unwrap()
        .remove(0)
        .remove(0);
    let address = inet(&bound);
    on_core(move |env: W| async move {
        let listener = bound.listen(&env);
        let (_peer_reader, _peer_writer) = connect(&env, address).await;
        let accepted = listener.accept().await.unwrap();
        assert!(accepted.peer().to_string().starts_with("127.0.0.1:"));
        let (mut reader, writer) = accepted.into_halves(&env);
        let aborting = env.clone();
        env.spawn(async move {
            aborting.next_pass().await;
            writer.abort();
        });
        assert_eq!(reader.receive(&mut [0; 16]).await.unwrap(), 0);
    });
}

// Would catch: `localhost` on one family only, a second server on the same port that starts without
// an error and steals connections.
#[test]
fn localhost_and_exclusive_ports() {
    let listeners = net::bind_host("localhost", 0, 2).unwrap();
    assert_eq!(listeners.len(), 2);
    assert_eq!(listeners[0].len(), listeners[1].len());
    let first = inet(&listeners[0][0]);
    assert!(first.ip().is_loopback() && first.port() != 0);
    assert!(
        listeners
            .iter()
            .flatten()
            .all(|bound| inet(bound).port() == first.port())
    );
    let second = net::bind(first, 1).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    assert!(second.to_string().contains(&first.to_string()), "{second}");
    assert_eq!(net::resolve("LOCALHOST", 1).unwrap().len(), 2);
    assert_eq!(
        net::resolve("[::1]", 1).unwrap(),
        ["[::1]:1".parse().unwrap()]
    );
    assert_eq!(net::resolve("", 1).unwrap(), ["[::]:1".parse().unwrap()]);
}

// Would catch: a connection lost or closed on its way to another core.
fn hand_over_to_another_core<W: World>() {
    let mut bound = net::bind_host("127.0.0.1", 0, 1).unwrap();
    let bound = bound.remove(0).remove(0);
    let address = inet(&bound);
    let mut seats = crate::runtime::mesh::seats::<Accepted>(2, 4);
    let (second, first) = (seats.pop().unwrap(), seats.pop().unwrap());
    let values = vec![(Some(bound), first), (None, second)];
    let (done, is_done) = mpsc::channel();
    let running = start(
        &Options::unpinned(2),
        values,
        move |env: W, (bound, seat)| {
            let done = done.clone();
            async move {
                use crate::env::Mesh;
                let mesh = seat.bind(&env);
                if let Some(bound) = bound {
                    let listener = bound.listen(&env);
                    let (mut reader, mut writer) = connect(&env, address).await;
                    let accepted = listener.accept().await.unwrap();
                    mesh.send(crate::ids::CoreId(1), accepted).await.unwrap();
                    writer.send_all(b"ping").await.unwrap();
                    assert_eq!(receive_all(&mut reader, 4).await, b"pong");
                    done.send(()).unwrap();
                } else {
                    let (from, accepted) = mesh.receive().await.unwrap();
                    assert_eq!(from, crate::ids::CoreId(0));
                    let (mut reader, mut writer) = accepted.into_halves(&env);
                    assert_eq!(receive_all(&mut reader, 4).await, b"ping");
                    writer.send_all(b"pong").await.unwrap();
                }
            }
        },
    )
    .unwrap();
    running.wait().unwrap();
    assert_eq!(is_done.try_iter().count(), 1);
}

// Would catch: a stale socket file that keeps a server from starting, a live one that is replaced.
fn unix_sockets<W: World>() {
    let dir = disk_dir();
    let path = dir.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bound = net::bind_unix(&path).unwrap();
    assert!(net::bind_unix(&path).is_err());
    on_core(|env: W| async move {
        let listener = Rc::new(bound.listen(&env));
        // The probe of the second `bind_unix` above waits in the backlog; it ends at once.
        let (mut reader, _writer) = listener.accept().await.unwrap().into_halves(&env);
        assert_eq!(reader.receive(&mut [0; 4]).await.unwrap(), 0);
        let (mut reader, _writer) = net::connect_unix(&env, &path).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        assert_eq!(accepted.peer().to_string(), "@");
        let (_reader, mut writer) = accepted.into_halves(&env);
        writer.send_all(b"here").await.unwrap();
        assert_eq!(receive_all(&mut reader, 4).await, b"here");
    });
}

in_both_worlds!(
    echo_and_end,
    abort_wakes_the_reader,
    hand_over_to_another_core,
    unix_sockets
);

/// A listener on a drawn port, and its address.
fn listening() -> (Bound, SocketAddr) {
    let bound = net::bind_host("127.0.0.1", 0, 1)
        .unwrap()
        .remove(0)
        .remove(0);
    let address = inet(&bound);
    (bound, address)
}

// Would catch: bytes of one connection in another's hands or lost when more connections have bytes
// than there are buffers, a buffer that is not given back, a receive that gives up without one.
#[test]
fn more_connections_than_buffers() {
    let count = usize::from(limits::RECEIVE_BUFFERS) * 3;
    let (bound, address) = listening();
    let peers = std::thread::spawn(move || {
        let mut peers: Vec<_> = (0..count)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        for round in 0..20u8 {
            for (n, peer) in peers.iter_mut().enumerate() {
                std::io::Write::write_all(peer, &[n as u8, round]).unwrap();
            }
        }
        peers
    });
    on_core(move |env: RingEnv| async move {
        let listener = bound.listen(&env);
        let mut readers = Vec::new();
        for _ in 0..count {
            readers.push(listener.accept().await.unwrap().into_halves(&env).0);
        }
        // All bytes are there before the first receive: each round asks for all at once.
        let _peers = peers.join().unwrap();
        let mut tasks = Vec::new();
        for mut reader in readers {
            let (answer, wait) = flume::bounded(1);
            env.spawn(async move {
                let bytes = receive_all(&mut reader, 40).await;
                answer.send(bytes).unwrap();
            });
            tasks.push(wait);
        }
        let mut seen = std::collections::BTreeMap::new();
        for wait in tasks {
            let bytes = wait.recv_async().await.unwrap();
            let pairs: Vec<_> = bytes.chunks(2).map(|pair| (pair[0], pair[1])).collect();
            assert!((0..20).all(|round| pairs[round] == (pairs[0].0, round as u8)));
            *seen.entry(pairs[0].0).or_insert(0) += 1;
        }
        assert_eq!(seen.values().sum::<usize>(), count);
    });
}

// Would catch: a dropped receive that keeps its buffer or its descriptor, or takes the bytes of a
// later connection: after more of them than there are buffers nothing could be received.
#[test]
fn dropped_operations_give_everything_back() {
    let (bound, address) = listening();
    on_core(move |env: RingEnv| async move {
        let listener = bound.listen(&env);
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        for round in 0..2 * limits::RECEIVE_BUFFERS {
            let (mut peer_reader, mut peer) = connect(&env, address).await;
            let (mut reader, writer) = listener.accept().await.unwrap().into_halves(&env);
            let waited = futures_lite::future::or(
                async {
                    reader.receive(&mut [0; 8]).await.unwrap();
                    true
                },
                async {
                    env.next_pass().await;
                    false
                },
            );
            assert!(!waited.await, "nothing was sent yet");
            if round % 2 == 0 {
                // Bytes that meet the operation while it is being canceled.
                peer.send_all(b"late").await.unwrap();
            }
            writer.abort();
            drop((reader, writer));
            let _ = peer_reader.receive(&mut [0; 8]).await;
        }
        // The kernel's last word on each of them comes with a later pass.
        for _ in 0..100 {
            env.next_pass().await;
        }
        let (mut reader, _writer) = connect(&env, address).await;
        let (_peer_reader, mut peer) = listener.accept().await.unwrap().into_halves(&env);
        peer.send_all(b"here").await.unwrap();
        assert_eq!(receive_all(&mut reader, 4).await, b"here");
        let after = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(after <= before + 8, "{before} descriptors, then {after}");
    });
}

// Would catch: connections that the kernel accepted ahead and that nobody took, left open after
// their listener is gone.
#[test]
fn a_closed_listener_closes_what_waits() {
    let (bound, address) = listening();
    on_core(move |env: RingEnv| async move {
        let listener = bound.listen(&env);
        let _first = std::net::TcpStream::connect(address).unwrap();
        let mut second = std::net::TcpStream::connect(address).unwrap();
        let _taken = listener.accept().await.unwrap();
        drop(listener);
        for _ in 0..100 {
            env.next_pass().await;
        }
        let closed = env.blocking(move || std::io::Read::read(&mut second, &mut [0; 4]));
        let closed = closed.await;
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(matches!(&closed, Ok(0)) || closed.is_err_and(|error| reset(&error)));
    });
}

// Would catch: a connection to a port that nobody listens on that seems to succeed, and one that
// cannot be told from a late one.
#[test]
fn a_refused_connection_is_an_error() {
    let (bound, address) = listening();
    drop(bound);
    on_core(move |env: RingEnv| async move {
        let refused = net::connect(&env, address, Duration::from_secs(10)).await;
        let error = refused.err().expect("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}
