//! Adapter. Tests of log files, tree files and directory operations on the real disk.

use super::{disk_dir, on_core};
use crate::env::{LogFile, TreeFile};
use crate::runtime::{LogAccess, Options, World, run_here};
use std::io;

// Would catch: a zero-filled file that is not all zeros or of the wrong size, an existing segment
// overwritten, a directory listed wrongly.
fn zeroed_files_and_directories<W: World>() {
    let dir = disk_dir();
    let root = dir.path().to_owned();
    on_core(|env: W| async move {
        let below = root.join("a/b");
        env.create_dir_all(&below).await.unwrap();
        env.create_zeroed(&below.join("2"), 1 << 20).await.unwrap();
        env.create_zeroed(&below.join("1"), 8192).await.unwrap();
        env.sync_dir(&below).await.unwrap();
        let again = env.create_zeroed(&below.join("1"), 4096).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let facts = env.list(&below).await.unwrap();
        let facts: Vec<_> = facts.iter().map(|f| (f.name.as_str(), f.size)).collect();
        assert_eq!(facts, [("1", 8192), ("2", 1 << 20)]);
        assert_eq!(env.list(&root.join("a")).await.unwrap(), []);
        assert!(
            std::fs::read(below.join("2"))
                .unwrap()
                .iter()
                .all(|b| *b == 0)
        );
        env.rename(&below.join("2"), &below.join("3"))
            .await
            .unwrap();
        env.remove(&below.join("1")).await.unwrap();
        assert_eq!(env.list(&below).await.unwrap().len(), 1);
        let odd = env
            .create_zeroed(&below.join("odd"), 1000)
            .await
            .unwrap_err();
        assert_eq!(odd.kind(), io::ErrorKind::InvalidInput);
        assert!(!below.join("odd").exists());
    });
}

fn log_round_trip<W: World>(log_access: LogAccess) {
    let dir = disk_dir();
    let path = dir.path().join("log");
    let options = Options {
        log_access,
        ..Options::unpinned(1)
    };
    run_here(&options, |env: W| async move {
        env.create_zeroed(&path, 64 << 10).await.unwrap();
        let log = env.open_log(&path).await.unwrap();
        assert_eq!(log.size(), 64 << 10);
        let block = log.alignment();
        assert!(block.is_power_of_two() && (512..=4096).contains(&block));
        // A used buffer must come back zeroed.
        for round in 1..4u8 {
            let mut buffer = log.alloc(2 * block);
            assert_eq!(buffer.len(), 2 * block);
            assert!(buffer.iter().all(|b| *b == 0), "round {round}");
            buffer.fill(round);
            log.write_at(buffer, u64::from(round) * 2 * block as u64)
                .await
                .unwrap();
        }
        let bytes = log.read_at(2 * block as u64, 2 * block).await.unwrap();
        assert!(bytes.iter().all(|b| *b == 1));
        let bytes = log.read_at(0, block).await.unwrap();
        assert!(bytes.iter().all(|b| *b == 0));
        // Several in flight, and the file outlives its handle while they are.
        let writes: Vec<_> = (0..8)
            .map(|n| log.write_at(log.alloc(block), (n * block) as u64))
            .collect();
        log.close().await.unwrap();
        for write in writes {
            write.await.unwrap();
        }
        let log = env.open_log(&path).await.unwrap();
        for (offset, size) in [
            (1, block),
            (0, block - 1),
            (64 << 10, block),
            (u64::MAX, block),
        ] {
            let refused = log.read_at(offset, size).await.unwrap_err();
            assert_eq!(
                refused.kind(),
                io::ErrorKind::InvalidInput,
                "{size} at {offset}"
            );
        }
        let beyond = log
            .write_at(log.alloc(2 * block), (64 << 10) - block as u64)
            .await;
        assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        log.close().await.unwrap();
    })
    .unwrap();
}

// Would catch: bytes at the wrong place, dirty buffers, an append past the segment, a file closed
// under a write in flight.
fn direct_log<W: World>() {
    log_round_trip::<W>(LogAccess::Direct);
}

// Would catch: the fallback behaving differently from the direct log.
fn buffered_log<W: World>() {
    log_round_trip::<W>(LogAccess::Buffered);
}

// Would catch: writes that the map does not show, reads past the end (they would kill the process),
// a size that lags behind, a map shorter than promised.
fn tree_file_and_its_map<W: World>() {
    let dir = disk_dir();
    let path = dir.path().join("tree");
    on_core(|env: W| async move {
        let tree = env.open_tree(&path, 1 << 30).await.unwrap();
        assert_eq!(tree.size(), 0);
        let pages = tree.pages();
        assert!(pages.read(0..1).is_none());
        assert_eq!(pages.read(0..0).unwrap().len(), 0);
        tree.write_at(vec![7; 4096], 4096).await.unwrap();
        assert_eq!(tree.size(), 8192);
        assert!(pages.read(0..4096).unwrap().iter().all(|b| *b == 0));
        assert!(pages.read(4096..8192).unwrap().iter().all(|b| *b == 7));
        assert!(pages.read(4096..8193).is_none());
        #[allow(clippy::reversed_empty_ranges)] // A corrupt page could ask for it.
        let reversed = 8000..4000;
        assert!(pages.read(reversed).is_none());
        tree.sync().await.unwrap();
        tree.set_size(1 << 20).await.unwrap();
        assert_eq!(pages.read(0..1 << 20).unwrap().len(), 1 << 20);
        tree.set_size(4096).await.unwrap();
        assert_eq!(tree.size(), 4096);
        assert!(pages.read(4096..8192).is_none());
        let beyond = tree
            .write_at(vec![1; 4096], (1 << 30) - 100)
            .await
            .unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::FileTooLarge);
        // Another core reads the same map.
        let other = tree.pages();
        let seen = std::thread::spawn(move || other.read(0..4096).map(|page| page.len()));
        assert_eq!(seen.join().unwrap(), Some(4096));
        drop(tree);
        let tree = env.open_tree(&path, 1 << 30).await.unwrap();
        assert_eq!(tree.size(), 4096);
        let too_small = env
            .open_tree(&path, 1024)
            .await
            .err()
            .expect("the map is too small");
        assert_eq!(too_small.kind(), io::ErrorKind::FileTooLarge);
    });
}

// Would catch: randomness that repeats, clocks that stand still or jump back.
fn clocks_and_randomness<W: World>() {
    on_core(|env: W| async move {
        let draws: std::collections::BTreeSet<u64> = (0..1000).map(|_| env.random()).collect();
        assert_eq!(draws.len(), 1000);
        let before = env.now();
        env.sleep(std::time::Duration::from_millis(1)).await;
        assert!(env.now() - before >= std::time::Duration::from_millis(1));
        assert!(env.wall().0 > 1_600_000_000_000_000_000);
    });
}

in_both_worlds!(
    zeroed_files_and_directories,
    direct_log,
    buffered_log,
    tree_file_and_its_map,
    clocks_and_randomness
);
