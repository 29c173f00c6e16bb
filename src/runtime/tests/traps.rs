//! Adapter. One test per trap of glommio 0.9 that the runtime works around; what a trap breaks must
//! hold in both worlds.

use super::{disk_dir, on_core};
use crate::env::{Env, LogFile, Mesh, ReadHalf};
use crate::ids::CoreId;
use crate::runtime::{Options, World, cpus, limits, mesh, net, start};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A background task that takes another slice as soon as it may, until `stop`.
async fn busy(env: impl Env, slices: Rc<Cell<u64>>, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        slices.set(slices.get() + 1);
        env.next_pass().await;
    }
}

// Trap (a). Would catch: a `next_pass` that does not suspend (a zero timer) or that requeues
// itself: the write beside it would then see thousands of slices, or the 100 ms of the preempt
// timer.
fn background_work_does_not_delay_completions<W: World>() {
    let dir = disk_dir();
    let path = dir.path().join("log");
    on_core(|env: W| async move {
        env.create_zeroed(&path, 1 << 20).await.unwrap();
        let log = env.open_log(&path).await.unwrap();
        let (slices, stop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        env.spawn(busy(env.clone(), Rc::clone(&slices), Rc::clone(&stop)));
        let mut least = u64::MAX;
        for n in 0..50u64 {
            let before = slices.get();
            log.write_at(log.alloc(4096), n * 4096).await.unwrap();
            least = least.min(slices.get() - before);
        }
        // A requeueing task would have had 100 ms of slices beside every one of them, some hundred
        // thousand; a write takes some dozens to thousands of passes, and more only when the disk
        // is slow, which it is not fifty times in a row.
        assert!(least < 50_000, "{least} slices beside the quickest write");
        assert!(
            slices.get() >= 50,
            "the background task ran beside the writes: {}",
            slices.get()
        );
        stop.set(true);
        log.close().await.unwrap();
    });
}

// Trap (a). Would catch: a peer, or another core, that always has something ready and so keeps its
// core from ever polling the rings: every read below is ready at once, and without the rows no
// pass would happen in between.
fn ready_peers_do_not_starve_the_core<W: World>() {
    let bound = net::bind_host("127.0.0.1", 0, 1)
        .unwrap()
        .remove(0)
        .remove(0);
    let (address, port) = ("127.0.0.1", bound.port().unwrap());
    let peer = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect((address, port)).unwrap();
        std::io::Write::write_all(&mut stream, &[7; 10_000]).unwrap();
        stream
    });
    let seat = mesh::seats::<u32>(1, 10_000).remove(0);
    on_core(|env: W| async move {
        let (mut reader, _writer) = bound.listen(&env).accept().await.unwrap().into_halves(&env);
        let mut byte = [0];
        assert_eq!(reader.receive(&mut byte).await.unwrap(), 1);
        let _stream = peer.join().unwrap();
        let mesh = seat.bind(&env);
        (0..10_000).for_each(|n| mesh.try_send(CoreId(0), n).unwrap());

        let (slices, stop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        env.spawn(busy(env.clone(), Rc::clone(&slices), Rc::clone(&stop)));
        for _ in 1..10_000 {
            assert_eq!(reader.receive(&mut byte).await.unwrap(), 1);
        }
        let passes = 10_000 / u64::from(limits::READY_PER_PASS);
        assert!(slices.get() >= passes - 1, "{} of {passes}", slices.get());

        slices.set(0);
        for n in 0..10_000 {
            assert_eq!(mesh.receive().await, Some((CoreId(0), n)));
        }
        let passes = 10_000 / u64::from(limits::MESSAGES_PER_PASS);
        assert!(slices.get() >= passes - 1, "{} of {passes}", slices.get());
        stop.set(true);
    });
}

// Trap (a). Would catch: `next_pass` returning before tasks that were ready have run, or not
// suspending at all.
fn a_pass_runs_what_was_ready<W: World>() {
    on_core(|env: W| async move {
        let ran = Rc::new(Cell::new(0));
        for round in 1..=100 {
            let count = Rc::clone(&ran);
            env.spawn(async move { count.set(count.get() + 1) });
            assert_eq!(
                ran.get(),
                round - 1,
                "spawn does not run the task inside the call"
            );
            env.next_pass().await;
            assert_eq!(ran.get(), round);
            env.sleep(Duration::ZERO).await;
        }
        // Many at once share passes.
        let done = Rc::new(Cell::new(0));
        for _ in 0..1000 {
            let (waiting, done) = (env.clone(), Rc::clone(&done));
            env.spawn(async move {
                waiting.next_pass().await;
                done.set(done.get() + 1);
            });
        }
        env.next_pass().await;
        env.next_pass().await;
        assert_eq!(done.get(), 1000);
    });
}

// Trap (b). Would catch: a preempt timer or a latency class other than the default, which parks the
// executor for ever with runnable tasks now and then.
fn timers_and_tasks_never_park_for_ever<W: World>() {
    on_core(|env: W| async move {
        let left = Rc::new(Cell::new(200));
        for n in 0..200u64 {
            let (env2, left) = (env.clone(), Rc::clone(&left));
            env.spawn(async move {
                for _ in 0..5 {
                    env2.sleep(Duration::from_micros(50 + n)).await;
                    env2.next_pass().await;
                }
                left.set(left.get() - 1);
            });
        }
        while left.get() > 0 {
            env.sleep(Duration::from_micros(100)).await;
        }
    });
}

// Trap (c). Would catch: an empty file opened as the first one of an executor, after which every
// O_DIRECT read fails.
fn an_empty_log_file_is_refused_and_reads_still_work<W: World>() {
    let dir = disk_dir();
    let (empty, full) = (dir.path().join("empty"), dir.path().join("full"));
    std::fs::write(&empty, b"").unwrap();
    on_core(|env: W| async move {
        assert!(env.open_log(&empty).await.is_err());
        env.create_zeroed(&full, 8192).await.unwrap();
        let log = env.open_log(&full).await.unwrap();
        assert_eq!(log.read_at(0, 4096).await.unwrap().len(), 4096);
        log.close().await.unwrap();
    });
}

// Trap (d). Would catch: a waiter that leaves a waker behind each time it is woken by something
// else; after 32,767 of them the core panics.
fn waiting_on_a_quiet_source_leaves_no_wakers<W: World>() {
    let running = start(
        &Options::unpinned(2),
        mesh::seats::<u32>(2, 8),
        |env: W, seat| async move {
            let mesh = seat.bind(&env);
            let other = CoreId(1 - env.core().0);
            if env.core() == CoreId(1) {
                assert_eq!(mesh.receive().await, Some((other, 7)));
                return;
            }
            // Messages to itself wake the receiver, the ring of the other core stays quiet.
            let own = mesh.clone();
            let env2 = env.clone();
            env.spawn(async move {
                for n in 0..70_000 {
                    own.send(CoreId(0), n).await.unwrap();
                    if n % 2 == 0 {
                        env2.next_pass().await;
                    }
                }
            });
            for n in 0..70_000 {
                assert_eq!(mesh.receive().await, Some((CoreId(0), n)));
            }
            mesh.send(other, 7).await.unwrap();
        },
    )
    .unwrap();
    running.wait().unwrap();
}

// Trap (f). Would catch: placement outside the process's affinity mask, and helper threads that
// share the core's CPU.
fn placement_follows_the_affinity_mask<W: World>() {
    let allowed = cpus::allowed().unwrap();
    let last = *allowed.last().unwrap();
    let thread = std::thread::spawn(move || {
        let mut mask = rustix::thread::CpuSet::new();
        mask.set(last);
        rustix::thread::sched_setaffinity(None, &mask).unwrap();
        cpus::choose(&cpus::Choice::All).unwrap()
    });
    assert_eq!(thread.join().unwrap(), [last]);

    let whole = allowed.clone();
    let running = start(&Options::new(vec![last]), vec![()], move |env: W, ()| {
        let whole = whole.clone();
        async move {
            let helper = env.blocking(cpus::allowed).await.unwrap();
            assert_eq!(helper, whole);
            assert_eq!(cpus::allowed().unwrap(), [last]);
        }
    })
    .unwrap();
    running.wait().unwrap();
}

// Trap (i). Would catch: more memory registered than the limit allows, which falls back silently.
#[test]
fn registered_memory_stays_below_the_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    for cores in [1, 2, 8, 64] {
        let bytes = crate::runtime::glommio::io_memory_bytes(cores);
        assert!((limits::IO_MEMORY_BYTES_MIN..=limits::IO_MEMORY_BYTES_MAX).contains(&bytes));
        let charged = (3 * bytes * cores) as u64;
        let floor = bytes == limits::IO_MEMORY_BYTES_MIN;
        assert!(
            floor || limit.is_none_or(|limit| charged <= limit),
            "{cores} cores: {charged}"
        );
    }
}

in_both_worlds!(
    background_work_does_not_delay_completions,
    ready_peers_do_not_starve_the_core,
    a_pass_runs_what_was_ready,
    timers_and_tasks_never_park_for_ever,
    an_empty_log_file_is_refused_and_reads_still_work,
    waiting_on_a_quiet_source_leaves_no_wakers,
    placement_follows_the_affinity_mask
);
