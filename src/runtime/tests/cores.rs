//! Adapter. Tests of cores, their failures, and the mesh between them.

use crate::env::{Mesh, Notify};
use crate::ids::CoreId;
use crate::runtime::{
    CoreFailure, Event, Options, Shutdown, StartError, World, cpus, mesh, run_here, start,
};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

// Would catch: cores on the wrong CPU or thread name, values given to the wrong core.
fn cores_are_pinned_and_named<W: World>() {
    let cpus = cpus::choose(&cpus::Choice::All).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let values: Vec<usize> = (0..cpus.len()).collect();
    let log = Arc::clone(&seen);
    let running = start(&Options::new(cpus.clone()), values, move |env: W, value| {
        let log = Arc::clone(&log);
        async move {
            let name = std::thread::current().name().unwrap().to_owned();
            let mask = cpus::allowed().unwrap();
            log.lock().unwrap().push((env.core(), value, name, mask));
        }
    })
    .unwrap();
    running.wait().unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen.len(), cpus.len());
    for (place, (core, value, name, mask)) in seen.into_iter().enumerate() {
        assert_eq!((core, value), (CoreId(place as u16), place));
        assert_eq!(name, format!("core-{place}"));
        assert_eq!(mask, [cpus[place]]);
    }
    let short = start(&Options::unpinned(2), vec![()], |_: W, ()| async {})
        .err()
        .unwrap();
    assert!(matches!(
        short,
        StartError::Values {
            got: 1,
            expected: 2
        }
    ));
}

// Would catch: messages lost, invented or out of order when every core floods every core through
// small rings; a sender or a receiver that sleeps for ever.
fn mesh_keeps_order_under_pressure<W: World>() {
    const CORES: u16 = 3;
    const MESSAGES: u64 = 20_000;
    let running = start(
        &Options::unpinned(usize::from(CORES)),
        mesh::seats::<u64>(CORES, 16),
        |env: W, seat| async move {
            let mesh = seat.bind(&env);
            assert_eq!((mesh.core(), mesh.core_count()), (env.core(), CORES));
            // A core's tasks end with its main future, so that one waits for the senders.
            let sending = Rc::new(Cell::new(CORES));
            let sent = Notify::new();
            for to in 0..CORES {
                let (mesh, sending, sent) = (mesh.clone(), Rc::clone(&sending), sent.clone());
                env.spawn(async move {
                    for n in 0..MESSAGES {
                        mesh.send(CoreId(to), n).await.unwrap();
                    }
                    sending.set(sending.get() - 1);
                    sent.notify();
                });
            }
            let mut next = [0; CORES as usize];
            for _ in 0..MESSAGES * u64::from(CORES) {
                let (from, n) = mesh.receive().await.unwrap();
                assert_eq!(n, next[usize::from(from.0)], "from {from:?}");
                next[usize::from(from.0)] += 1;
            }
            assert_eq!(next, [MESSAGES; CORES as usize]);
            assert!(mesh.try_receive().is_none());
            while sending.get() > 0 {
                sent.wait().await;
            }
        },
    )
    .unwrap();
    running.wait().unwrap();
}

// Would catch: a lost wake-up between two cores that take turns at parking.
fn mesh_ping_pong<W: World>() {
    const ROUNDS: u64 = 5_000;
    let running = start(
        &Options::unpinned(2),
        mesh::seats::<u64>(2, 4),
        |env: W, seat| async move {
            let mesh = seat.bind(&env);
            let other = CoreId(1 - env.core().0);
            if env.core() == CoreId(0) {
                mesh.send(other, 0).await.unwrap();
            }
            loop {
                let (from, n) = mesh.receive().await.unwrap();
                assert_eq!(from, other);
                if n < ROUNDS {
                    mesh.send(other, n + 1).await.unwrap();
                }
                if n + 1 >= ROUNDS {
                    break;
                }
            }
        },
    )
    .unwrap();
    running.wait().unwrap();
}

// Would catch: a full ring that takes more, a core that waits for messages of cores that are gone,
// a sender that waits for a core that is gone.
fn mesh_full_and_gone<W: World>() {
    let seats = mesh::seats::<u64>(2, 2);
    let left = Event::new();
    let running = start(&Options::unpinned(2), seats, move |env: W, seat| {
        let left = left.clone();
        async move {
            let mesh = seat.bind(&env);
            if env.core() == CoreId(0) {
                let other = CoreId(1);
                mesh.try_send(other, 1).unwrap();
                mesh.try_send(other, 2).unwrap();
                assert_eq!(mesh.try_send(other, 3), Err(3));
                // Waits for room; the other core leaves instead of making any.
                let (sent, ()) =
                    futures_lite::future::zip(mesh.send(other, 4), async { left.raise() }).await;
                assert_eq!(sent, Err(4));
                assert_eq!(mesh.receive().await, Some((other, 9)));
                assert_eq!(mesh.receive().await, None);
            } else {
                left.wait().await;
                mesh.send(CoreId(0), 9).await.unwrap();
            }
        }
    })
    .unwrap();
    running.wait().unwrap();
}

// Would catch: a wish to shut down that another core never hears of.
fn shutdown_reaches_every_core<W: World>() {
    let shutdown = Shutdown::manual();
    let heard = Arc::new(AtomicU64::new(0));
    let (wish, count) = (shutdown.clone(), Arc::clone(&heard));
    let running = start(&Options::unpinned(2), vec![(), ()], move |_: W, ()| {
        let (wish, count) = (wish.clone(), Arc::clone(&count));
        async move {
            wish.requested().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .unwrap();
    assert!(!shutdown.is_requested());
    shutdown.request();
    running.wait().unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 2);
    assert_eq!(shutdown.signal(), None);
}

// Would catch: a task's panic that goes unnoticed, or that hangs main while other cores run on.
fn a_panic_reaches_main<W: World>() {
    let stay = Event::new();
    let waiting = stay.clone();
    let running = start(
        &Options::unpinned(2),
        vec![false, true],
        move |env: W, panics| {
            let waiting = waiting.clone();
            async move {
                if panics {
                    env.spawn(async { panic!("the sky is falling") });
                }
                waiting.wait().await;
            }
        },
    )
    .unwrap();
    let failure = running.wait().unwrap_err();
    assert_eq!(failure.core(), CoreId(1));
    assert!(
        failure.to_string().contains("the sky is falling"),
        "{failure}"
    );
    stay.raise();

    let here = run_here(&Options::unpinned(1), |env: W| async move {
        env.spawn(async { panic!("here too") });
        std::future::pending::<()>().await;
    });
    assert!(matches!(here, Err(CoreFailure::Panic { message, .. }) if message == "here too"));
}

in_both_worlds!(
    cores_are_pinned_and_named,
    mesh_keeps_order_under_pressure,
    mesh_ping_pong,
    mesh_full_and_gone,
    shutdown_reaches_every_core,
    a_panic_reaches_main
);
