//! Adapter. The simulator about itself: determinism, crash semantics, time, fairness.

use super::disk::{Disk, SECTOR_BYTES};
use super::{NodeId, SimEnv, World, duplex, mesh};
use crate::env::{Env, LogFile, Mesh, ReadHalf, TreeFile, WriteHalf};
use crate::ids::CoreId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

const NODE: NodeId = NodeId(0);

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

/// A bit of everything; returns what it saw.
fn workload(seed: u64) -> (u64, Vec<u64>) {
    let world = World::new(seed);
    world.add_node(3);
    let envs: Vec<SimEnv> = (0..3).map(|n| world.env(NODE, CoreId(n))).collect();
    let ends = mesh::<u64>(&envs, 4);
    let seen = Rc::new(RefCell::new(Vec::new()));
    for (env, mesh) in envs.into_iter().zip(ends) {
        let seen = Rc::clone(&seen);
        env.clone().spawn(async move {
            let name = path(&format!("{}", env.core()));
            env.create_zeroed(&name, 8192).await.unwrap();
            let log = env.open_log(&name).await.unwrap();
            let next = CoreId((env.core().0 + 1) % 3);
            for n in 0..20u64 {
                let mut buffer = log.alloc(512);
                buffer[0] = n as u8;
                log.write_at(buffer, n % 16 * 512).await.unwrap();
                env.sleep(Duration::from_nanos(env.random() % 100_000))
                    .await;
                mesh.send(next, n).await.unwrap();
                let (from, m) = mesh.receive().await.unwrap();
                seen.borrow_mut().push(u64::from(from.0) << 32 | m);
            }
        });
    }
    world.run_until(|| seen.borrow().len() == 60);
    let seen = seen.borrow().clone();
    (world.trace(), seen)
}

// Would catch: anything that looks at the real world, a hash map's order, an address: a seed that
// does not replay.
#[test]
fn the_same_seed_does_the_same() {
    let mut traces = BTreeSet::new();
    for seed in 0..20 {
        let (first, second) = (workload(seed), workload(seed));
        assert_eq!(first, second, "seed {seed}");
        traces.insert(first.0);
    }
    assert_eq!(traces.len(), 20, "different seeds differ");
}

// Would catch: time that moves by itself or backwards, sleeps that end early or out of order.
#[test]
fn virtual_time() {
    let world = World::single(1);
    let order = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&order);
    world.run(|env| async move {
        let begin = env.now();
        for ms in [30u64, 10, 20] {
            let (env2, log) = (env.clone(), Rc::clone(&log));
            env.spawn(async move {
                env2.sleep(Duration::from_millis(ms)).await;
                log.borrow_mut().push(ms);
            });
        }
        env.sleep(Duration::from_secs(3600)).await;
        assert!(env.now() - begin >= Duration::from_secs(3600));
        assert!(env.now() - begin < Duration::from_secs(3601));
    });
    assert_eq!(*order.borrow(), [10, 20, 30]);
    let before = world.env(NODE, CoreId(0)).wall();
    world.step_wall(NODE, -5_000_000_000);
    assert_eq!(
        world.env(NODE, CoreId(0)).wall().0,
        before.0 - 5_000_000_000
    );
}

// Would catch: a task that always has work and keeps the others, or the timers, from running.
#[test]
fn nobody_starves() {
    let world = World::new(7);
    world.add_node(2);
    let counts: Vec<Rc<Cell<u64>>> = (0..8).map(|_| Rc::default()).collect();
    for (n, count) in counts.iter().enumerate() {
        let env = world.env(NODE, CoreId(n as u16 % 2));
        let count = Rc::clone(count);
        env.clone().spawn(async move {
            loop {
                count.set(count.get() + 1);
                // Never waits for anything: always ready again.
                let mut yielded = false;
                std::future::poll_fn(|context| {
                    if std::mem::replace(&mut yielded, true) {
                        return std::task::Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    std::task::Poll::Pending
                })
                .await;
            }
        });
    }
    world.run(|env| async move {
        env.sleep(Duration::from_millis(5)).await;
        env.next_pass().await;
    });
    let counts: Vec<u64> = counts.iter().map(|count| count.get()).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least > 100 && *most < 2 * *least, "{counts:?}");
}

// Would catch: a completed log write that a crash loses; a write in flight that is never lost,
// never whole or never torn.
#[test]
fn log_writes_at_a_crash() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let world = World::single(seed);
        world.run(|env| async move {
            env.create_zeroed(&path("log"), 8192).await.unwrap();
            env.sync_dir(&path("")).await.unwrap();
            env.sync_dir(Path::new("/data")).await.unwrap();
            let log = env.open_log(&path("log")).await.unwrap();
            log.write_at(vec![1; 1024], 0).await.unwrap();
            env.spawn(async move {
                let _ = log.write_at(vec![2; 2048], 4096).await;
                std::future::pending::<()>().await;
            });
            env.next_pass().await;
        });
        world.crash(NODE);
        let bytes = world.run(|env| async move {
            let log = env.open_log(&path("log")).await.unwrap();
            log.read_at(0, 8192).await.unwrap()
        });
        assert!(bytes[..1024].iter().all(|b| *b == 1), "seed {seed}");
        assert!(
            bytes[1024..4096]
                .iter()
                .chain(&bytes[6144..])
                .all(|b| *b == 0)
        );
        let sectors: Vec<u8> = bytes[4096..6144]
            .chunks(SECTOR_BYTES)
            .map(|s| s[0])
            .collect();
        for sector in bytes[4096..6144].chunks(SECTOR_BYTES) {
            assert!(
                sector.iter().all(|b| *b == sector[0]),
                "a sector never tears"
            );
        }
        outcomes.insert(sectors);
    }
    assert!(outcomes.contains(&vec![0, 0, 0, 0]) && outcomes.contains(&vec![2, 2, 2, 2]));
    assert!(outcomes.len() > 8, "{outcomes:?}");
}

// Would catch: synced pages lost, unsynced ones that always survive, bytes nobody wrote, a version
// of before the last sync.
#[test]
fn tree_writes_at_a_crash() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let world = World::single(seed);
        world.run(|env| async move {
            let tree = env.open_tree(&path("tree"), 1 << 20).await.unwrap();
            tree.write_at(vec![1; 2048], 0).await.unwrap();
            tree.write_at(vec![2; 1024], 0).await.unwrap();
            tree.sync().await.unwrap();
            env.sync_dir(Path::new("/data")).await.unwrap();
            tree.write_at(vec![3; 1024], 0).await.unwrap();
            tree.write_at(vec![4; 1024], 0).await.unwrap();
            tree.write_at(vec![5; 512], 2048).await.unwrap();
            assert_eq!(tree.size(), 2560);
            assert!(tree.pages().read(0..1024).unwrap().iter().all(|b| *b == 4));
            assert!(tree.pages().read(0..2561).is_none());
        });
        world.crash(NODE);
        let bytes = world.run(|env| async move {
            let tree = env.open_tree(&path("tree"), 1 << 20).await.unwrap();
            tree.pages().read(0..tree.size()).unwrap().to_vec()
        });
        assert!(bytes[1024..2048].iter().all(|b| *b == 1));
        let sectors: Vec<u8> = bytes.chunks(SECTOR_BYTES).map(|s| s[0]).collect();
        assert!(
            sectors[..2].iter().all(|b| [2, 3, 4].contains(b)),
            "{sectors:?}"
        );
        assert!(
            sectors.len() == 4 || [0, 5].contains(&sectors[4]),
            "{sectors:?}"
        );
        outcomes.insert(sectors);
    }
    assert!(outcomes.contains(&vec![2, 2, 1, 1]) && outcomes.contains(&vec![4, 4, 1, 1, 5]));
    assert!(
        outcomes.iter().any(|s| s.len() == 5 && s[4] == 0),
        "size grown, bytes not written"
    );
    assert!(
        outcomes.iter().any(|s| s[0] == 3 || s[1] == 3),
        "a version in between"
    );
}

// Would catch: names that are durable without sync_dir, or lost with it; a rename half done.
#[test]
fn names_at_a_crash() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let mut disk = Disk::new(seed);
        let dir = Path::new("/data");
        assert!(disk.list(dir).is_err());
        disk.create_dir_all(dir).unwrap();
        assert_eq!(disk.list(dir).unwrap(), []);
        disk.create_zeroed(&path("a"), 512).unwrap();
        disk.create_zeroed(&path("b"), 1024).unwrap();
        disk.sync_dir(dir).unwrap();
        disk.rename(&path("a"), &path("c")).unwrap();
        disk.remove(&path("b")).unwrap();
        disk.create_zeroed(&path("d"), 1536).unwrap();
        assert_eq!(
            disk.list(dir).unwrap(),
            [("c".to_owned(), 512), ("d".to_owned(), 1536)]
        );
        disk.crash();
        let names: Vec<String> = disk
            .list(dir)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_ne!(
            names.contains(&"a".to_owned()),
            names.contains(&"c".to_owned()),
            "{names:?}"
        );
        outcomes.insert(names.concat());
    }
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
}

// Would catch: failures that do not come, or that come twice; a full disk that takes more; a failed
// sync whose pages a later sync makes durable after all.
#[test]
fn orders_to_fail() {
    let dir = Path::new("/data");
    let mut lost = 0;
    for seed in 0..100 {
        let mut disk = Disk::new(seed);
        let file = disk.open_or_create(&path("tree")).unwrap();
        disk.sync_dir(dir).unwrap();
        disk.fail_at(2, io::ErrorKind::Other);
        disk.write(file, 0, &[1; 512]).unwrap();
        assert!(disk.sync(file).is_err());
        assert_eq!(
            disk.read(file, 0, 1).unwrap(),
            [1],
            "the cache still shows it"
        );
        disk.write(file, 512, &[2; 512]).unwrap();
        disk.sync(file).unwrap();
        disk.crash();
        let file = disk.find(&path("tree")).unwrap();
        assert_eq!(disk.read(file, 512, 512).unwrap(), [2; 512]);
        lost += u32::from(disk.read(file, 0, 1).unwrap() == [0]);
    }
    assert!((20..100).contains(&lost), "{lost}");

    let mut disk = Disk::new(1);
    disk.set_capacity(2048);
    let file = disk.create_zeroed(&path("a"), 1024).unwrap();
    let full = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::StorageFull;
    assert!(full(disk.create_zeroed(&path("b"), 1025).map(drop)));
    assert!(full(disk.write(file, 1024, &[0; 1025])));
    disk.write(file, 1024, &[0; 1024]).unwrap();
    disk.set_size(file, 0).unwrap();
    disk.create_zeroed(&path("b"), 2048).unwrap();

    assert!(disk.rot(&path("b"), 7, 3));
    let file = disk.find(&path("b")).unwrap();
    assert_eq!(disk.read(file, 7, 1).unwrap(), [8]);
    assert!(!disk.rot(&path("b"), 9999, 0) && !disk.rot(&path("none"), 0, 0));

    disk.cut_after(1);
    disk.write_durably(file, 0, &[9; 512]).unwrap();
    assert!(disk.is_cut());
    assert!(disk.write(file, 0, &[7; 512]).is_err());
    assert!(disk.sync_dir(dir).is_err());
}

// Would catch: a task of before the crash that lives on, a file handle of before it that still
// works.
#[test]
fn a_crash_ends_the_life_before() {
    let world = World::new(3);
    world.add_node(1);
    let other = world.add_node(1);
    let ticks = Rc::new(Cell::new(0));
    let count = Rc::clone(&ticks);
    let (log, env) = world.run_on(other, CoreId(0), |env| async move {
        env.create_zeroed(&path("log"), 4096).await.unwrap();
        env.sync_dir(Path::new("/data")).await.unwrap();
        let ticking = env.clone();
        env.spawn(async move {
            loop {
                ticking.sleep(Duration::from_millis(1)).await;
                count.set(count.get() + 1);
            }
        });
        env.sleep(Duration::from_millis(10)).await;
        (env.open_log(&path("log")).await.unwrap(), env)
    });
    assert!(ticks.get() >= 9 && env.is_alive());
    world.crash(other);
    assert!(!env.is_alive());
    let at_crash = ticks.get();
    world.run(|env| async move {
        env.sleep(Duration::from_millis(50)).await;
        assert!(log.write_at(vec![1; 512], 0).await.is_err());
    });
    assert_eq!(ticks.get(), at_crash);
    world.run_on(other, CoreId(0), |env| async move {
        assert_eq!(env.list(Path::new("/data")).await.unwrap().len(), 1);
    });
}

// Would catch: bytes lost or reordered on a pipe whose ends are slow, an end or a crash that the
// other side never sees.
#[test]
fn pipes() {
    for seed in 0..10 {
        let world = World::new(seed);
        let (a, b) = (world.add_node(1), world.add_node(1));
        let (env_a, env_b) = (world.env(a, CoreId(0)), world.env(b, CoreId(0)));
        let ((mut reader, _keep), (_kept, mut writer)) = duplex(&env_a, &env_b);
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        env_b.spawn(async move {
            writer.send_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            std::future::pending::<()>().await;
        });
        let received = world.run(|_| async move {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 10_000]);
            loop {
                match reader.receive(&mut buffer).await.unwrap() {
                    0 => return all,
                    got => all.extend_from_slice(&buffer[..got]),
                }
            }
        });
        assert!(received == expected, "seed {seed}");

        let ((mut reader, _keep), (peer_reader, peer_writer)) = duplex(&env_a, &env_b);
        env_b.spawn(async move {
            let _held = (peer_reader, peer_writer);
            std::future::pending::<()>().await;
        });
        world.run_for(Duration::from_millis(1));
        world.crash(b);
        let error = world.run(|_| async move { reader.receive(&mut [0; 8]).await.unwrap_err() });
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

// Would catch: a mesh that loses, reorders or forgets to wake when full.
#[test]
fn mesh_under_pressure() {
    for seed in 0..10 {
        let world = World::new(seed);
        world.add_node(3);
        let envs: Vec<SimEnv> = (0..3).map(|n| world.env(NODE, CoreId(n))).collect();
        let mut ends = mesh::<u64>(&envs, 2);
        let receiver = ends.remove(0);
        for (end, env) in ends.into_iter().zip(&envs[1..]) {
            for _ in 0..2 {
                let end = end.clone();
                env.spawn(async move {
                    for n in 0..100 {
                        end.send(CoreId(0), n).await.unwrap();
                    }
                });
            }
        }
        world.run(|_| async move {
            let mut sums = [0; 3];
            while let Some((from, n)) = receiver.receive().await {
                sums[usize::from(from.0)] += n;
            }
            assert_eq!(sums, [0, 2 * 4950, 2 * 4950]);
        });
    }
}

// Would catch: worlds that stay in memory: a test of ten thousand seeds would fill the machine.
#[test]
fn a_world_is_freed() {
    let held = Rc::new(());
    let world = World::single(1);
    let inside = Rc::clone(&held);
    world.run(|env| async move {
        let forever = env.clone();
        env.spawn(async move {
            loop {
                forever.sleep(Duration::from_secs(1)).await;
                assert_eq!(Rc::strong_count(&inside), 2);
            }
        });
        env.next_pass().await;
    });
    assert_eq!(Rc::strong_count(&held), 2);
    drop(world);
    assert_eq!(Rc::strong_count(&held), 1);
}
