//! Driver. The server and a real etcd, the same requests in lock step, every answer compared.
//!
//! *Live*: a seed draws the requests; both servers start empty. *Recorded*: the requests and etcd's
//! answers come from a file of `tests/it/transcripts/`, so that machines without Go compare too.
//!
//! What is compared: code, text and every byte of the answer, except what differs between two
//! etcds as well (`Outcome::masked`). A difference names the step, both answers and how to repeat.
//!
//! Environment: RINGBOLT_DIFF_SEED, RINGBOLT_DIFF_STEPS; RINGBOLT_DIFF_MISMATCHES (report so many
//! before giving up; default 1: after the first the two may have drifted apart); REWRITE=1 records
//! the transcripts anew from a real etcd.

mod describe;
mod draw;
mod outcome;
mod overlap;
mod run;
mod step;
mod transcript;

use std::path::PathBuf;

use libtest_mimic::{Completion, Failed, Trial};

use crate::world;
use draw::Drawer;
use run::{Mismatches, Side};
use transcript::Transcript;

const LIVE_SEEDS: [u64; 2] = [1, 2];
const LIVE_STEPS: u64 = 4_000;
const RECORDED: [(&str, u64, u64); 2] = [("seed-11", 11, 8_000), ("seed-12", 12, 8_000)];

pub fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    for seed in LIVE_SEEDS {
        tests.push(Trial::ignorable_test(
            format!("differential::live_{seed}"),
            move || with_etcd(|etcd| live(world::ringbolt(), etcd, seed)),
        ));
    }
    // Proves the comparison itself: two etcds must never differ.
    let etcd_and_etcd = Trial::ignorable_test("differential::etcd_and_etcd", || {
        with_etcd(|etcd| live(etcd.clone(), etcd, LIVE_SEEDS[0]))
    });
    tests.push(etcd_and_etcd.with_ignored_flag(true));
    for (name, seed, steps) in RECORDED {
        tests.push(Trial::ignorable_test(
            format!("differential::recorded_{name}"),
            move || recorded(name, seed, steps),
        ));
    }
    tests
}

fn with_etcd(
    test: impl FnOnce(PathBuf) -> Result<Completion, Failed>,
) -> Result<Completion, Failed> {
    match world::etcd_folder() {
        Ok(folder) => test(folder.join("etcd")),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

// Catches: any answer that differs from etcd's for the same history.
fn live(subject: PathBuf, oracle: PathBuf, seed: u64) -> Result<Completion, Failed> {
    let seed = number("RINGBOLT_DIFF_SEED", seed);
    let steps = number("RINGBOLT_DIFF_STEPS", LIVE_STEPS);
    let folder = world::scratch("differential")?;
    let mut oracle = Side::oracle(oracle, &folder.path().join("oracle"))?;
    let mut subject = Side::subject(subject, &folder.path().join("subject"))?;
    let mut drawer = Drawer::new(seed);
    let mut mismatches = Mismatches::new(number("RINGBOLT_DIFF_MISMATCHES", 1));
    for i in 0..steps {
        let step = drawer.next();
        // Both work at the same time.
        oracle.begin(&step)?;
        subject.begin(&step)?;
        let expected = oracle.finish(&step)?;
        let got = subject.finish(&step)?;
        drawer.observe(&step, &expected);
        mismatches.compare(&format!("seed {seed}, step {i}"), &step, &expected, &got)?;
    }
    mismatches.verdict()
}

// Catches: the same, on machines where no etcd can be built.
fn recorded(name: &str, seed: u64, steps: u64) -> Result<Completion, Failed> {
    let path = world::repository().join(format!("tests/it/transcripts/{name}.deflate"));
    if std::env::var_os("REWRITE").is_some() {
        return with_etcd(|etcd| record(etcd, seed, steps, &path));
    }
    let transcript = Transcript::load(&path)?;
    let folder = world::scratch("recorded")?;
    let mut subject = Side::subject(world::ringbolt(), folder.path())?;
    let mut mismatches = Mismatches::new(number("RINGBOLT_DIFF_MISMATCHES", 1));
    for (i, (step, expected)) in transcript.steps.iter().enumerate() {
        subject.begin(step)?;
        let got = subject.finish(step)?;
        mismatches.compare(
            &format!("transcript {name}, step {i}"),
            step,
            expected,
            &got,
        )?;
    }
    mismatches.verdict()
}

fn record(
    etcd: PathBuf,
    seed: u64,
    steps: u64,
    path: &std::path::Path,
) -> Result<Completion, Failed> {
    let folder = world::scratch("record")?;
    let mut oracle = Side::oracle(etcd, folder.path())?;
    let mut drawer = Drawer::new(seed);
    let mut transcript = Transcript::default();
    for _ in 0..steps {
        let step = drawer.next();
        oracle.begin(&step)?;
        let outcome = oracle.finish(&step)?;
        drawer.observe(&step, &outcome);
        transcript.steps.push((step, outcome));
    }
    transcript.save(path)?;
    Ok(Completion::ignored_with(format!(
        "recorded {steps} steps of seed {seed}"
    )))
}
