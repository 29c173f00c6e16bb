//! Driver. The load generator against its own floor server: the two add up.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use ringbolt::bench::load::{self, Length, LoadSpec};
use ringbolt::bench::workload::{Keys, Order, Verb};
use ringbolt::bench::{BenchError, cli, session::Session};

use crate::world;

const READY_WITHIN: Duration = Duration::from_secs(30);

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("bench::puts_on_the_floor_add_up", puts_add_up),
        Trial::test("bench::refusals_fail_a_run", refusals_fail),
    ]
}

struct Floor(Child);

impl Drop for Floor {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_floor(folder: &std::path::Path) -> Result<(Floor, String), Failed> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let endpoint = format!("127.0.0.1:{port}");
    let child = Command::new(env!("CARGO_BIN_EXE_ringbolt-bench"))
        .args(["floor", "--listen", &endpoint, "--folder"])
        .arg(folder)
        .stdin(Stdio::null())
        .spawn()?;
    let floor = Floor(child);
    let begin = Instant::now();
    while let Err(error) = Session::connect(&endpoint, READY_WITHIN) {
        if begin.elapsed() > READY_WITHIN {
            return Err(error.into());
        }
        std::thread::yield_now();
    }
    Ok((floor, endpoint))
}

fn spec(endpoint: String, verb: Verb, rate: Option<f64>) -> LoadSpec {
    LoadSpec {
        endpoint,
        verb,
        keys: Keys {
            count: 1000,
            order: Order::Uniform,
            key_size: 32,
            value_size: 256,
        },
        connections: 5,
        in_flight: 20,
        threads: 2,
        warm_up: Duration::ZERO,
        length: Length::Operations(4_001),
        rate,
        server_pid: None,
    }
}

// Catches: operations lost or counted twice on their way through connections, threads and the
// clock of the open loop; answers taken for others.
fn puts_add_up() -> Result<(), Failed> {
    let folder = world::scratch("floor")?;
    let (_floor, endpoint) = start_floor(folder.path())?;
    for (round, rate) in [None, Some(50_000.0)].into_iter().enumerate() {
        let before = cli::current_revision(&endpoint)?;
        let result = load::run(&spec(endpoint.clone(), Verb::Put, rate), |_, _| ())?;
        let last = cli::current_revision(&endpoint)?;
        if result.operations != 4_001 || result.latency.len() != 4_001 {
            return Err(format!("round {round}: {} operations", result.operations).into());
        }
        if !result.acknowledged.are_all_between(before, last) {
            return Err(
                format!("round {round}: {:?}, {before} {last}", result.acknowledged).into(),
            );
        }
    }
    Ok(())
}

// Catches: a run that takes a wrong answer for a good one. The floor knows no keys.
fn refusals_fail() -> Result<(), Failed> {
    let folder = world::scratch("floor")?;
    let (_floor, endpoint) = start_floor(folder.path())?;
    match cli::measure(&spec(
        endpoint,
        Verb::Get {
            serializable: false,
        },
        None,
    )) {
        Err(BenchError::Failures(failures)) if failures.get("KeyMissing") == Some(&4_001) => Ok(()),
        other => Err(format!("gets on the floor: {:?}", other.map(|_| ())).into()),
    }
}
