//! Driver. The server and a real etcd, the same requests in lock step, every answer compared.
//!
//! *Live*: a seed draws the requests, or a script says them; both servers start empty. *Recorded*:
//! the requests and etcd's answers come from a file of `tests/it/transcripts/`, so that machines
//! without Go compare too.
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
mod run;
mod scripts;
mod step;
mod transcript;
mod twice;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use libtest_mimic::{Completion, Failed, Trial};

use crate::world;
use draw::Drawer;
use outcome::Outcome;
use run::{Mismatches, Side};
use scripts::{SCRIPTS, Script};
use step::Step;
use transcript::Transcript;

const LIVE_SEEDS: [u64; 2] = [1, 2];
const LIVE_STEPS: u64 = 4_000;
const RECORDED: [(&str, u64, u64); 2] = [("seed-11", 11, 12_000), ("seed-12", 12, 12_000)];

pub fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    let mut add = |name: String, test: Box<dyn FnOnce() -> Ending + Send>| {
        tests.push(Trial::ignorable_test(format!("differential::{name}"), test));
    };
    for seed in LIVE_SEEDS {
        add(
            format!("live_{seed}"),
            Box::new(move || with_etcd(|etcd| live(world::ringbolt(), etcd, seed))),
        );
    }
    for (name, seed, count) in RECORDED {
        add(
            format!("recorded_{name}"),
            Box::new(move || recorded(name, &mut Drawn::new(seed, count))),
        );
    }
    for Script(name, make) in SCRIPTS {
        add(
            format!("script_{name}"),
            Box::new(move || {
                with_etcd(|etcd| compare(world::ringbolt(), etcd, name, &mut Written::new(make)))
            }),
        );
        add(
            format!("recorded_script_{name}"),
            Box::new(move || recorded(&format!("script-{name}"), &mut Written::new(make))),
        );
    }
    // Proves the comparison itself: two etcds must never differ.
    let etcd_and_etcd = Trial::ignorable_test("differential::etcd_and_etcd", || {
        with_etcd(|etcd| live(etcd.clone(), etcd, LIVE_SEEDS[0]))
    });
    tests.push(etcd_and_etcd.with_ignored_flag(true));
    tests
}

type Ending = Result<Completion, Failed>;

fn with_etcd(test: impl FnOnce(PathBuf) -> Ending) -> Ending {
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

/// Where the steps of a comparison come from.
trait Steps {
    fn next(&mut self) -> Option<Step>;
    /// What etcd answered to the step.
    fn observe(&mut self, step: &Step, outcome: &Outcome);
}

/// Steps drawn from a seed.
struct Drawn {
    drawer: Drawer,
    left: u64,
}

impl Drawn {
    fn new(seed: u64, count: u64) -> Drawn {
        Drawn {
            drawer: Drawer::new(seed),
            left: count,
        }
    }
}

impl Steps for Drawn {
    fn next(&mut self) -> Option<Step> {
        self.left = self.left.checked_sub(1)?;
        Some(self.drawer.next())
    }

    fn observe(&mut self, step: &Step, outcome: &Outcome) {
        self.drawer.observe(step, outcome);
    }
}

/// Steps of a script.
struct Written(VecDeque<Step>);

impl Written {
    fn new(script: fn() -> Vec<Step>) -> Written {
        Written(script().into())
    }
}

impl Steps for Written {
    fn next(&mut self) -> Option<Step> {
        self.0.pop_front()
    }

    fn observe(&mut self, _: &Step, _: &Outcome) {}
}

fn live(subject: PathBuf, oracle: PathBuf, seed: u64) -> Ending {
    let seed = number("RINGBOLT_DIFF_SEED", seed);
    let count = number("RINGBOLT_DIFF_STEPS", LIVE_STEPS);
    let mut steps = Drawn::new(seed, count);
    compare(subject, oracle, &format!("seed {seed}"), &mut steps)
}

// Catches: any answer that differs from etcd's for the same history.
fn compare(subject: PathBuf, oracle: PathBuf, name: &str, steps: &mut dyn Steps) -> Ending {
    let folder = world::scratch("differential")?;
    let mut oracle = Side::oracle(oracle, &folder.path().join("oracle"))?;
    let mut subject = Side::subject(subject, &folder.path().join("subject"))?;
    let mut mismatches = Mismatches::new(number("RINGBOLT_DIFF_MISMATCHES", 1));
    let mut at = 0;
    while let Some(step) = steps.next() {
        // Both work at the same time.
        oracle.begin(&step)?;
        subject.begin(&step)?;
        let expected = oracle.finish(&step)?;
        let got = subject.finish(&step)?;
        steps.observe(&step, &expected);
        mismatches.compare(&format!("{name}, step {at}"), &step, &expected, &got)?;
        at += 1;
    }
    mismatches.verdict()
}

// Catches: the same, on machines where no etcd can be built.
fn recorded(name: &str, steps: &mut dyn Steps) -> Ending {
    let path = world::repository().join(format!("tests/it/transcripts/{name}.deflate"));
    if std::env::var_os("REWRITE").is_some() {
        return with_etcd(|etcd| record(etcd, steps, &path));
    }
    let transcript = Transcript::load(&path)?;
    let folder = world::scratch("recorded")?;
    let mut subject = Side::subject(world::ringbolt(), folder.path())?;
    let mut mismatches = Mismatches::new(number("RINGBOLT_DIFF_MISMATCHES", 1));
    for (at, (step, expected)) in transcript.steps.iter().enumerate() {
        subject.begin(step)?;
        let got = subject.finish(step)?;
        let at = format!("transcript {name}, step {at}");
        mismatches.compare(&at, step, expected, &got)?;
    }
    mismatches.verdict()
}

fn record(etcd: PathBuf, steps: &mut dyn Steps, path: &Path) -> Ending {
    let folder = world::scratch("record")?;
    let mut oracle = Side::oracle(etcd, folder.path())?;
    let mut transcript = Transcript::default();
    while let Some(step) = steps.next() {
        oracle.begin(&step)?;
        let outcome = oracle.finish(&step)?;
        steps.observe(&step, &outcome);
        transcript.steps.push((step, outcome));
    }
    transcript.save(path)?;
    let count = transcript.steps.len();
    Ok(Completion::ignored_with(format!("recorded {count} steps")))
}
